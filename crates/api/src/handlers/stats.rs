//! `docker stats`.

use std::time::Duration;

use bytes::Bytes;
use engine::container::stats::StatsReader;
use engine::models::ContainerStatsResponse;
use errdefs::{Error, Result, Step};
use tokio::sync::mpsc::{Sender, channel};

use crate::call::{Call, blocking};
use crate::reply::Reply;
use crate::shape;
use crate::version::Version;

/// How often a stream tells, as dockerd's.
const EVERY: Duration = Duration::from_secs(1);

/// Once, or every second until the container is gone.
pub async fn stats(call: Call) -> Result<Reply> {
    let name = call.name().to_owned();
    let reader = blocking(&call.server, move |engine| engine.stats(&name)).await?;
    let stream = call.query.text("stream").is_none() || call.query.on("stream");
    if !stream {
        return once(reader, call.since(41) && call.query.on("one-shot")).await;
    }
    let (sender, receiver) = channel(1);
    let version = call.version;
    tokio::spawn(async move {
        if let Err(error) = follow(reader, version, &sender).await {
            let _ = sender.send(Err(error)).await;
        }
    });
    Ok(Reply::stream("application/json", receiver))
}

/// Two looks, a second apart, so that there is something to compare with; one for who asks for it.
async fn once(reader: StatsReader, one_shot: bool) -> Result<Reply> {
    let (reader, mut stats) = look(reader).await?;
    if !one_shot && stats.as_ref().is_some_and(runs) {
        tokio::time::sleep(EVERY).await;
        stats = look(reader).await?.1;
    }
    let stats = stats.ok_or_else(|| Error::not_found("the container is gone"))?;
    Ok(Reply::json(200, &stats))
}

fn runs(stats: &ContainerStatsResponse) -> bool {
    stats
        .pids_stats
        .as_ref()
        .is_some_and(|pids| pids.current.unwrap_or(0) > 0)
}

async fn follow(mut reader: StatsReader, version: Version, sender: &Sender<Result<Bytes>>) -> Result<()> {
    loop {
        let stats;
        (reader, stats) = look(reader).await?;
        let Some(stats) = stats else { return Ok(()) };
        let mut document = serde_json::to_value(&stats).step("encode the statistics")?;
        shape::document("containers.stats", version, &mut document);
        let line = format!("{document}\n");
        if sender.send(Ok(line.into())).await.is_err() {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = sender.closed() => return Ok(()),
        }
    }
}

async fn look(mut reader: StatsReader) -> Result<(StatsReader, Option<ContainerStatsResponse>)> {
    let looked = tokio::task::spawn_blocking(move || {
        let stats = reader.look()?;
        Ok::<_, Error>((reader, stats))
    });
    looked.await.step("look at the container")?
}
