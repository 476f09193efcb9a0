//! The web page of `berth api --ui`, in a real browser.

use berth_tests::BUSYBOX;
use berth_tests::api::Api;
use berth_tests::browser::Browser;
use berth_tests::network::{World, inside};

/// Where the page said that it is.
fn address(api: &Api) -> String {
    let said = api.said.lock().unwrap().clone();
    let line = said
        .lines()
        .find_map(|l| l.split_once("page at "))
        .expect("it says where");
    line.1.to_owned()
}

#[test]
fn the_page_shows_and_changes_nothing_unless_asked() {
    let world = World::new();
    let api = Api::with(world.berth(), &["--ui", "127.0.0.1:8080"]);
    api.docker(&["network", "create", "--subnet", "10.99.0.0/24", "front"])
        .ok();
    let script = "echo '<b>bold</b> words'; exec sleep 1000";
    let flags = [
        "run",
        "-d",
        "--name",
        "web",
        "--network",
        "front",
        BUSYBOX,
        "sh",
        "-c",
        script,
    ];
    api.docker(&flags).ok();
    let mut page = Browser::open(&world.host(), &address(&api));
    page.says("read-only");
    for words in ["web", BUSYBOX, "Up ", "runs", "front 10.99.0.0/24", "10.99.0.2"] {
        page.says(words);
    }
    page.says(" %");
    page.click("Logs");
    page.says("<b>bold</b> words");
    let text = page.text();
    assert!(!text.contains("Terminal") && !text.contains("Stop"), "{text}");
    assert_eq!(
        page.evaluate("document.querySelectorAll('#text b, script[src^=http]').length"),
        0
    );
    // What the page does not offer is refused all the same.
    let status = |method: &str, path: &str| {
        format!("fetch('{path}', {{method: '{method}', headers}}).then(a => document.title = 'status ' + a.status)")
    };
    page.evaluate(&status("POST", "/containers/web/stop"));
    let titled = |page: &mut Browser, words: &str| {
        berth_tests::eventually(words, || page.evaluate("document.title") == words);
    };
    titled(&mut page, "status 403");
    page.evaluate("headers.Authorization = 'Bearer wrong'");
    page.evaluate(&status("GET", "/containers/json"));
    titled(&mut page, "status 401");
    drop(page);
    let mut stranger = Browser::open(&world.host(), "http://127.0.0.1:8080/");
    stranger.says("token is needed");
    api.docker(&["rm", "-f", "web"]).ok();
    api.docker(&["network", "rm", "front"]).ok();
}

#[test]
fn the_page_opens_terminals_and_stops_containers_when_asked() {
    let world = World::new();
    let api = Api::with(world.berth(), &["--ui", "127.0.0.1:8080", "--ui-write"]);
    let busy = ["sh", "-c", "trap exit TERM; while :; do sleep 0.1; done"];
    api.start(&["--name", "web"], &busy);
    let mut page = Browser::open(&world.host(), &address(&api));
    page.says("Terminal");
    page.click("Terminal");
    page.says("#");
    page.type_keys("echo $((6 * 7)) from $HOSTNAME$(hostname | wc -c)\n");
    page.says("42 from ");
    page.type_keys("exit\n");
    page.says("[it has ended]");
    page.click("Stop");
    page.says("Exited (0)");
    page.says("Start");
    let said = api.said.lock().unwrap().clone();
    assert!(
        said.contains("GET /berth/terminal/") && said.contains("/stop: 204"),
        "{said}"
    );
    api.docker(&["rm", "-f", "web"]).ok();
}

#[test]
fn the_page_is_on_loopback_alone() {
    let world = World::new();
    let berth = world.berth();
    let socket = format!("unix://{}", berth.path("api.sock"));
    berth
        .run(&["api", "-H", &socket, "--ui", "0.0.0.0:8080"])
        .fails(1, "it is no address of loopback");
    berth.run(&["api", "-H", &socket, "--ui-write"]).fails(1, "--ui");
    let api = Api::with(berth, &["--ui", "127.0.0.1:8080"]);
    let page = address(&api);
    let token = page.split_once('#').unwrap().1;
    let ask = |headers: &[&str]| {
        let mut curl = inside(&world.host(), "curl");
        curl.args([
            "-s",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "http://127.0.0.1:8080/info",
        ]);
        headers.iter().for_each(|h| _ = curl.args(["-H", h]));
        String::from_utf8(curl.output().unwrap().stdout).unwrap()
    };
    let bearer = format!("Authorization: Bearer {token}");
    assert_eq!(ask(&[&bearer]), "200");
    assert_eq!(ask(&[]), "401");
    assert_eq!(ask(&[&bearer, "Host: evil.example:8080"]), "403");
    assert_eq!(ask(&[&bearer, "Origin: http://evil.example"]), "403");
}
