//! `update`.

use engine::models::ContainerUpdateBody;
use errdefs::{Error, Result};

use crate::cli::flag::Given;
use crate::output::{each, say};
use crate::translate::values;
use crate::{output, settings};

/// Changes limits and restart policies.
pub fn update(given: &Given) -> Result<u8> {
    let bytes = |flag: &str, shown: &str| given.one(flag).map(|text| values::bytes(shown, text)).transpose();
    let text = |flag: &str| given.one(flag).map(String::from);
    let body = ContainerUpdateBody {
        blkio_weight: given
            .number("blkio-weight")?
            .map(|w| w.clamp(0, u16::MAX.into()) as u16),
        cpu_period: given.number("cpu-period")?,
        cpu_quota: given.number("cpu-quota")?,
        cpu_realtime_period: given.number("cpu-rt-period")?,
        cpu_realtime_runtime: given.number("cpu-rt-runtime")?,
        cpu_shares: given.number("cpu-shares")?,
        cpuset_cpus: text("cpuset-cpus"),
        cpuset_mems: text("cpuset-mems"),
        memory: bytes("memory", "-m, --memory")?,
        memory_reservation: bytes("memory-reservation", "--memory-reservation")?,
        memory_swap: match given.one("memory-swap") {
            Some("-1") => Some(-1),
            _ => bytes("memory-swap", "--memory-swap")?,
        },
        nano_cpus: given.one("cpus").map(values::cpus).transpose()?,
        pids_limit: given.number("pids-limit")?,
        restart_policy: given.one("restart").map(values::restart).transpose()?,
        ..Default::default()
    };
    let egress = given.one("egress");
    if body == ContainerUpdateBody::default() && egress.is_none() {
        return Err(Error::invalid(
            "you must provide one or more flags when using this command",
        ));
    }
    let engine = settings::engine()?;
    Ok(each(&given.words, |name| {
        if let Some(policy) = egress {
            engine.set_container_egress(name, policy)?;
        }
        if body == ContainerUpdateBody::default() {
            say(&format!("{name}\n"));
            return Ok(());
        }
        let warnings = engine.update(name, &body)?;
        warnings.iter().for_each(|w| output::note(&format!("WARNING: {w}")));
        say(&format!("{name}\n"));
        Ok(())
    }))
}
