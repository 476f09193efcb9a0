//! A user at a terminal.

use berth_tests::terminal::Terminal;
use berth_tests::{BUSYBOX, Berth, eventually};

#[test]
fn a_shell_on_a_terminal() {
    let berth = Berth::new();
    let mut terminal = Terminal::start(
        berth.command(&["run", "--rm", "-it", "--network", "none", BUSYBOX, "sh"]),
        33,
        99,
    );
    terminal.expect("/ #");
    terminal.keys(b"stty size; tty; ls -l /dev/console | cut -c1\r");
    terminal.expect("33 99");
    terminal.expect("/dev/pts/0");
    terminal.resize(44, 111);
    // What is typed is on the screen, too: it is to be another text than what is waited for.
    terminal.keys(b"until stty size | grep '44 1'11; do :; done\r");
    terminal.expect("44 111");
    // Ctrl-C is for a program that surely runs; what is typed before the shell is back may be lost to it.
    terminal.keys(b"sh -c 'echo be\"gun\"; exec cat'\r");
    terminal.expect("begun");
    terminal.keys(b"word\r");
    terminal.expect("word\r\nword");
    terminal.keys(b"\x03");
    eventually("the prompt is back", || {
        terminal
            .screen()
            .split_once("^C")
            .is_some_and(|(_, after)| after.contains("/ #"))
    });
    terminal.keys(b"echo after=$?\r");
    terminal.expect("after=130");
    terminal.keys(b"exit 9\r");
    assert_eq!(terminal.code(), 9);
}

#[test]
fn keys_detach_and_attach_comes_back() {
    let berth = Berth::new();
    let mut terminal = Terminal::start(
        berth.command(&["run", "-it", "--name", "stay", "--network", "none", BUSYBOX, "sh"]),
        24,
        80,
    );
    terminal.expect("/ #");
    terminal.keys(b"\x10\x11");
    terminal.expect("read escape sequence");
    assert_eq!(terminal.code(), 0);
    assert_eq!(berth.inspect("stay", "{{.State.Status}}"), "running");
    let mut terminal = Terminal::start(berth.command(&["attach", "--detach-keys", "ctrl-a", "stay"]), 24, 80);
    eventually("the prompt is back", || {
        std::thread::sleep(std::time::Duration::from_millis(100));
        terminal.keys(b"echo a$((1+1))b\r");
        terminal.screen().contains("a2b")
    });
    terminal.keys(b"\x01");
    assert_eq!(terminal.code(), 0);
    berth.run(&["stop", "-t", "0", "stay"]).ok();
}

#[test]
fn exec_has_a_terminal_of_its_own() {
    let berth = Berth::new();
    berth.start(&["--name", "box"], &["sleep", "60"]);
    let mut terminal = Terminal::start(berth.command(&["exec", "-it", "box", "sh"]), 31, 77);
    terminal.expect("/ #");
    terminal.keys(b"stty size; exit 5\r");
    terminal.expect("31 77");
    assert_eq!(terminal.code(), 5);
}

#[test]
fn the_users_terminal_is_as_it_was_afterwards() {
    let berth = Berth::new();
    let script = format!(
        "{} run --rm -it --network none {BUSYBOX} true; stty -a | tr ';' '\\n' | grep -c ' -icanon'; echo end",
        berth_tests::program().display()
    );
    let mut command = std::process::Command::new("setsid");
    command
        .args(["-c", "sh", "-c", &script])
        .env("BERTH_DATA", berth.path("data"))
        .env("BERTH_RUN", berth.path("run"));
    let terminal = Terminal::start(command, 24, 80);
    terminal.expect("end");
    assert!(terminal.screen().contains("0\r\nend"), "{}", terminal.screen());
}
