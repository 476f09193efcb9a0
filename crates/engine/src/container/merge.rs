//! Docker's body and the image's configuration to one body (moby `daemon/container.go`, `merge`).

use bollard_stubs::models::{ContainerCreateBody, HealthConfig};
use oci_spec::image::ImageConfiguration;

/// Fills what the request left open from the image.
pub fn merge(body: &mut ContainerCreateBody, image: &ImageConfiguration) {
    let Some(config) = image.config() else { return };
    let or = |mine: &mut Option<String>, theirs: &Option<String>| {
        if mine.as_deref().is_none_or(str::is_empty) {
            *mine = theirs.clone().filter(|s| !s.is_empty());
        }
    };
    or(&mut body.user, config.user());
    or(&mut body.working_dir, config.working_dir());
    or(&mut body.stop_signal, config.stop_signal());
    merge_command(body, config.entrypoint(), config.cmd());
    merge_env(
        body.env.get_or_insert_default(),
        config.env().as_deref().unwrap_or_default(),
    );
    for (key, value) in config.labels().iter().flatten() {
        body.labels
            .get_or_insert_default()
            .entry(key.clone())
            .or_insert_with(|| value.clone());
    }
    add_missing(&mut body.exposed_ports, config.exposed_ports());
    add_missing(&mut body.volumes, config.volumes());
}

/// The request's health check, what it leaves open filled from the image's.
pub fn merge_health(body: &mut ContainerCreateBody, image: Option<&HealthConfig>) {
    let Some(theirs) = image else { return };
    let mine = body.healthcheck.get_or_insert_default();
    if mine.test.as_ref().is_none_or(Vec::is_empty) {
        mine.test.clone_from(&theirs.test);
    }
    let or = |mine: &mut Option<i64>, theirs: Option<i64>| {
        if mine.is_none_or(|n| n == 0) {
            *mine = theirs;
        }
    };
    or(&mut mine.interval, theirs.interval);
    or(&mut mine.timeout, theirs.timeout);
    or(&mut mine.start_period, theirs.start_period);
    or(&mut mine.start_interval, theirs.start_interval);
    or(&mut mine.retries, theirs.retries);
}

/// An entrypoint of the request's own drops the image's command; `--entrypoint ""` (one empty word) drops both.
fn merge_command(body: &mut ContainerCreateBody, entrypoint: &Option<Vec<String>>, cmd: &Option<Vec<String>>) {
    if body.entrypoint.as_ref().is_none_or(Vec::is_empty) {
        if body.cmd.as_ref().is_none_or(Vec::is_empty) {
            body.cmd = cmd.clone();
        }
        body.entrypoint = entrypoint.clone();
    } else if body.entrypoint.as_deref() == Some(&[String::new()]) {
        body.entrypoint = None;
    }
}

/// The image's variables that the request does not set come after the request's.
fn merge_env(mine: &mut Vec<String>, theirs: &[String]) {
    let key = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    let set: Vec<String> = mine.iter().map(|e| key(e)).collect();
    mine.extend(theirs.iter().filter(|e| !set.contains(&key(e))).cloned());
}

fn add_missing(mine: &mut Option<Vec<String>>, theirs: &Option<Vec<String>>) {
    for item in theirs.iter().flatten() {
        let mine = mine.get_or_insert_default();
        if !mine.contains(item) {
            mine.push(item.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> ImageConfiguration {
        serde_json::from_str(
            r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]},"config":{
            "User":"www","Env":["PATH=/x","A=1"],"Entrypoint":["/e"],"Cmd":["c"],"Labels":{"k":"image","l":"image"},
            "Volumes":{"/data":{}},"StopSignal":"SIGINT"}}"#,
        )
        .unwrap()
    }

    #[test]
    fn the_request_wins_and_the_image_fills_the_rest() {
        let mut body = ContainerCreateBody {
            env: Some(vec!["A=2".into(), "B=3".into()]),
            labels: Some([("k".to_owned(), "mine".to_owned())].into()),
            ..Default::default()
        };
        merge(&mut body, &image());
        assert_eq!(body.env.unwrap(), ["A=2", "B=3", "PATH=/x"]);
        assert_eq!(body.labels.unwrap()["k"], "mine");
        assert_eq!(
            (body.user.unwrap().as_str(), body.stop_signal.unwrap().as_str()),
            ("www", "SIGINT")
        );
        assert_eq!(body.volumes.unwrap(), ["/data"]);
    }

    #[test]
    fn entrypoint_and_command_follow_dockers_table() {
        let words = |s: &str| Some(s.split(' ').map(String::from).collect::<Vec<_>>());
        let table = [
            // request's entrypoint, request's command -> what runs
            (None, None, "/e c"),
            (None, words("x y"), "/e x y"),
            (words("/n"), None, "/n"),
            (words("/n"), words("x"), "/n x"),
            (Some(vec![String::new()]), words("x"), "x"),
            (Some(vec![String::new()]), None, ""),
        ];
        for (entrypoint, cmd, expected) in table {
            let mut body = ContainerCreateBody {
                entrypoint,
                cmd,
                ..Default::default()
            };
            merge(&mut body, &image());
            let args: Vec<_> = [body.entrypoint, body.cmd].into_iter().flatten().flatten().collect();
            assert_eq!(args.join(" "), expected);
        }
    }
}
