//! Chromium without a screen, told what to do over a pipe (its DevTools protocol).

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::eventually;
use crate::network::inside;

/// A page that is open.
pub struct Browser {
    child: Child,
    commands: File,
    answers: BufReader<File>,
    session: String,
    number: u64,
    dir: tempfile::TempDir,
}

impl Browser {
    /// Opens a page, from a network namespace.
    pub fn open(namespace: &str, url: &str) -> Self {
        Browser::start(inside(namespace, "sh"), url)
    }

    /// Opens a page that is a file, on a phone's screen.
    pub fn on_a_phone(path: &str) -> Self {
        let mut browser = Browser::start(Command::new("sh"), "about:blank");
        let screen = json!({"width": 390, "height": 844, "deviceScaleFactor": 3, "mobile": true});
        browser.call("Emulation.setDeviceMetricsOverride", screen);
        browser.call("Page.navigate", json!({"url": format!("file://{path}")}));
        eventually("the page is there", || {
            browser.evaluate("location.protocol + document.readyState") == "file:complete"
        });
        browser
    }

    fn start(mut shell: Command, url: &str) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("berth-browser-")
            .tempdir_in("/var/tmp")
            .expect("a directory");
        let path = |name: &str| dir.path().join(name).display().to_string();
        let (commands, answers) = (path("commands"), path("answers"));
        for pipe in [&commands, &answers] {
            let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
            rustix::fs::mkfifoat(rustix::fs::CWD, pipe, mode).expect("make a pipe");
        }
        // It reads descriptor 3 and writes to 4.
        let script = "exec 3<\"$0\" 4>\"$1\"; shift; exec chromium \"$@\"";
        let child = shell
            .args(["-c", script, &commands, &answers])
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"])
            .arg(format!("--user-data-dir={}", path("profile")))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start chromium");
        let mut browser = Browser {
            child,
            commands: File::options().write(true).open(&commands).expect("open its commands"),
            answers: BufReader::new(File::open(&answers).expect("open its answers")),
            session: String::new(),
            number: 0,
            dir,
        };
        let target = browser.call("Target.createTarget", json!({"url": url}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = browser.call("Target.attachToTarget", attach);
        browser.session = attached["sessionId"].as_str().expect("a session").to_owned();
        browser
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        self.number += 1;
        let mut message = json!({"id": self.number, "method": method, "params": params});
        if !self.session.is_empty() {
            message["sessionId"] = self.session.as_str().into();
        }
        self.commands
            .write_all(format!("{message}\0").as_bytes())
            .expect("tell the browser");
        loop {
            let mut answer = Vec::new();
            self.answers.read_until(0, &mut answer).expect("hear the browser");
            assert_eq!(answer.pop(), Some(0), "the browser ended");
            let mut answer: Value = serde_json::from_slice(&answer).expect("the browser's JSON");
            if answer["id"] == self.number {
                assert!(answer.get("error").is_none(), "{method}: {answer}");
                return answer["result"].take();
            }
        }
    }

    /// What a piece of script says.
    pub fn evaluate(&mut self, script: &str) -> Value {
        let params = json!({"expression": script, "returnByValue": true});
        let mut done = self.call("Runtime.evaluate", params);
        assert!(done.get("exceptionDetails").is_none(), "{script}: {done}");
        done["result"]["value"].take()
    }

    /// What the page says, as text.
    pub fn text(&mut self) -> String {
        let text = self.evaluate("document.body ? document.body.innerText : ''");
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Until the page says so.
    #[track_caller]
    pub fn says(&mut self, words: &str) {
        eventually(&format!("the page says {words:?}"), || self.text().contains(words));
    }

    /// Clicks on a button by its words.
    pub fn click(&mut self, words: &str) {
        let find = format!("[...document.querySelectorAll('button')].find(b => b.textContent === '{words}').click()");
        self.evaluate(&find);
    }

    /// Keys, one after the other; a line's end is Enter.
    pub fn type_keys(&mut self, text: &str) {
        for letter in text.chars() {
            let (key, text) = match letter {
                '\n' => ("Enter".to_owned(), "\r".to_owned()),
                letter => (letter.to_string(), letter.to_string()),
            };
            let press = json!({"type": "keyDown", "key": key, "text": text});
            self.call("Input.dispatchKeyEvent", press);
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.session.clear();
        let closed = format!("{}\0", json!({"id": 0, "method": "Browser.close"}));
        let _ = self.commands.write_all(closed.as_bytes());
        let _ = self.child.wait();
        let _ = &self.dir;
    }
}
