//! `info` and `version`.

use errdefs::{Result, Step};
use serde_json::json;

use super::listing;
use crate::cli::flag::Given;
use crate::output::say;
use crate::{format, settings};

/// Shows the host as Berth sees it.
pub fn info(given: &Given) -> Result<u8> {
    if given.on("kernel") {
        return super::compat::kernel(given);
    }
    let info = settings::engine()?.info()?;
    if given.has("format") {
        listing::print_documents(given.one("format"), &[serde_json::to_value(info).step("write JSON")?])?;
        return Ok(0);
    }
    let text = |t: &Option<String>| t.clone().unwrap_or_default();
    let number = |n: Option<i64>| n.unwrap_or(0);
    let mut lines = vec![
        format!("Containers: {}", number(info.containers)),
        format!(" Running: {}", number(info.containers_running)),
        format!(" Paused: {}", number(info.containers_paused)),
        format!(" Stopped: {}", number(info.containers_stopped)),
        format!("Images: {}", number(info.images)),
        format!("Server Version: {}", text(&info.server_version)),
        format!("Storage Driver: {}", text(&info.driver)),
        format!("Logging Driver: {}", text(&info.logging_driver)),
        format!(
            "Cgroup Driver: {}",
            info.cgroup_driver.map(|d| d.to_string()).unwrap_or_default()
        ),
        format!(
            "Cgroup Version: {}",
            info.cgroup_version.map(|v| v.to_string()).unwrap_or_default()
        ),
        "Security Options:".into(),
    ];
    lines.extend(info.security_options.iter().flatten().map(|o| {
        format!(
            "  {}",
            o.trim_start_matches("name=")
                .replace(",", "\n   ")
                .replace("profile=", "Profile: ")
        )
    }));
    lines.extend([
        format!("Kernel Version: {}", text(&info.kernel_version)),
        format!("Operating System: {}", text(&info.operating_system)),
        format!("OSType: {}", text(&info.os_type)),
        format!("Architecture: {}", text(&info.architecture)),
        format!("CPUs: {}", number(info.ncpu)),
        format!("Total Memory: {}", format::binary_size(number(info.mem_total))),
        format!("Name: {}", text(&info.name)),
        format!("Berth Root Dir: {}", text(&info.docker_root_dir)),
    ]);
    say(&(lines.join("\n") + "\n"));
    Ok(0)
}

/// Shows versions.
pub fn version(given: &Given) -> Result<u8> {
    let version = settings::engine()?.version();
    let text = |t: &Option<String>| t.clone().unwrap_or_default();
    let client = json!({
        "Version": version.version, "ApiVersion": version.api_version, "Os": version.os, "Arch": version.arch,
        "Context": "default", "Platform": {"Name": "Berth"},
    });
    if given.has("format") {
        let server = serde_json::to_value(&version).step("write JSON")?;
        listing::print_documents(given.one("format"), &[json!({"Client": client, "Server": server})])?;
        return Ok(0);
    }
    say(&format!(
        "Client: Berth\n Version:           {0}\n API version:       {1}\n OS/Arch:           {2}/{3}\n\nServer: Berth (in the same program: \
         there is no daemon)\n Engine:\n  Version:          {0}\n  API version:      {1} (minimum version {4})\n  OS/Arch:          \
         {2}/{3}\n  Kernel:           {5}\n",
        text(&version.version),
        text(&version.api_version),
        text(&version.os),
        text(&version.arch),
        text(&version.min_api_version),
        text(&version.kernel_version),
    ));
    Ok(0)
}
