//! The loop: members come and go, questions are answered or passed on.

use std::collections::{HashMap, HashSet};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use engine::Roots;
use engine::link::{self, Answer};
use engine::names::Member;
use errdefs::{Error, Result, Step};

use crate::caller::Caller;
use crate::egress::Egress;
use crate::forward::{Forward, Resolvers};
use crate::poller::{Poller, Source};
use crate::registry::{Registry, Reverse};
use crate::wire::{self, Bad, Data, LONGEST, Query, code, kind};

/// A monitor that sends half a message is not waited for longer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long nobody must have been connected before the service ends: a container often follows on another.
const LINGER: Duration = Duration::from_millis(300);
/// How long those are waited for that were there before the service was killed.
const COMPLETE: Duration = Duration::from_secs(1);
/// Datagrams of one container that are taken before others have their turn.
const IN_A_ROW: usize = 32;

/// Everything that the service knows.
pub struct Service {
    pub roots: Roots,
    listener: UnixListener,
    pub poller: Poller,
    pub members: HashMap<u64, Connected>,
    registry: Registry,
    pub forwards: HashMap<u64, Forward>,
    pub callers: HashMap<u64, Caller>,
    pub resolvers: Resolvers,
    pub egress: Egress,
    next: u64,
    /// Containers that ran before us and have not come yet: until then, or until that moment, nobody is answered.
    expected: Option<(HashSet<String>, Instant)>,
    /// Since when nobody is connected.
    alone_since: Option<Instant>,
}

/// A monitor, and what it told.
pub struct Connected {
    socket: UnixStream,
    token: u64,
    pub member: Member,
    /// With their tokens, once they are listened to.
    questions: Option<(UdpSocket, Option<u64>)>,
    door: Option<(TcpListener, Option<u64>)>,
    /// Questions of its that were passed on and are not answered.
    pub waiting: usize,
    /// Its connections.
    pub callers: usize,
}

impl Connected {
    /// Who waits at its door.
    pub fn accept(&self) -> Option<(TcpStream, SocketAddr)> {
        self.door.as_ref().and_then(|(door, _)| door.accept().ok())
    }
}

/// Who is answered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Asker {
    /// By datagram.
    Datagram(SocketAddr),
    /// Over a connection.
    Caller(u64),
}

impl Service {
    /// Listening, without members.
    pub fn new(roots: Roots, listener: UnixListener) -> Result<Self> {
        let mut poller = Poller::new()?;
        poller.add(&listener, Source::Listener, false)?;
        let expected = engine::names::expected(&roots);
        Ok(Service {
            expected: (!expected.is_empty()).then(|| (expected, Instant::now() + COMPLETE)),
            roots,
            listener,
            poller,
            members: HashMap::new(),
            registry: Registry::default(),
            forwards: HashMap::new(),
            callers: HashMap::new(),
            resolvers: Resolvers::default(),
            egress: Egress::default(),
            next: 0,
            alone_since: Some(Instant::now()),
        })
    }

    /// Until nobody needs it.
    pub fn run(&mut self) -> Result<()> {
        let mut buffer = vec![0; LONGEST];
        loop {
            let ends = self.alone_since.map(|since| since + LINGER);
            let complete = self.expected.as_ref().map(|(_, at)| *at);
            let deadlines = [
                ends,
                complete,
                self.next_deadline(),
                self.next_hang_up(),
                self.egress.settles_at(),
            ];
            for source in self.poller.wait(deadlines.into_iter().flatten().min())? {
                match source {
                    Source::Listener => self.accept(),
                    Source::Member(key) => self.hear(key),
                    Source::Questions(key) => self.take_questions(key, &mut buffer),
                    Source::Door(key) => self.admit(key),
                    Source::Caller(key) => self.attend(key, &mut buffer),
                    Source::Resolver(key) => self.hear_resolver(key, &mut buffer),
                    Source::Reports => self.hear_denied(),
                    Source::Firewall => self.mend_guard(),
                }
            }
            self.give_up_late();
            self.hang_up_idle();
            self.settle_guard();
            self.listen_when_complete();
            if self.alone_since.is_some_and(|since| since.elapsed() >= LINGER) && self.leave()? {
                return Ok(());
            }
        }
    }

    /// A key that nobody has.
    pub fn new_key(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Takes the socket away, unless somebody came meanwhile. Who connects in this very moment finds the connection broken,
    /// and comes again.
    fn leave(&mut self) -> Result<bool> {
        let _lock = engine::names::hold(&self.roots)?;
        self.accept();
        if self.alone_since.is_none() {
            return Ok(false);
        }
        self.leave_guard();
        std::fs::remove_file(self.roots.names_socket()).step("remove the socket")?;
        Ok(true)
    }

    fn accept(&mut self) {
        while let Ok((socket, _)) = self.listener.accept() {
            let key = self.new_key();
            let times = socket
                .set_read_timeout(Some(PATIENCE))
                .and_then(|()| socket.set_write_timeout(Some(PATIENCE)));
            let Ok(token) = self.poller.add(&socket, Source::Member(key), false) else {
                continue;
            };
            if times.is_err() {
                self.poller.remove(&socket, token);
                continue;
            }
            self.alone_since = None;
            let connected = Connected {
                socket,
                token,
                member: Member::default(),
                questions: None,
                door: None,
                waiting: 0,
                callers: 0,
            };
            self.members.insert(key, connected);
        }
    }

    /// A monitor tells of its container, or is gone.
    fn hear(&mut self, key: u64) {
        let Some(connected) = self.members.get(&key) else {
            return;
        };
        match link::receive::<Member>(connected.socket.as_fd()) {
            Ok(Some((member, sockets))) => {
                let answer = match self.take_member(key, member, sockets) {
                    Ok(()) => Answer::Done,
                    Err(error) => Answer::Failed(error.to_wire()),
                };
                if let Some(connected) = self.members.get(&key) {
                    let _ = link::send(connected.socket.as_fd(), &answer, &[]);
                }
            }
            Ok(None) | Err(_) => self.forget(key),
        }
    }

    fn take_member(&mut self, key: u64, member: Member, sockets: Vec<OwnedFd>) -> Result<()> {
        let Some(connected) = self.members.get_mut(&key) else {
            return Ok(());
        };
        let before = std::mem::replace(&mut connected.member, member);
        self.registry.remove(key, &before);
        self.registry.add(key, &self.members[&key].member);
        let ended = self.members[&key].member.id.is_empty();
        if let Some((expected, _)) = &mut self.expected {
            expected.remove(&self.members[&key].member.id);
        }
        if ended || !sockets.is_empty() {
            self.close_sockets(key);
        }
        self.guard_member(key, &before)?;
        match <[OwnedFd; 2]>::try_from(sockets) {
            Ok([questions, door]) => self.open_sockets(key, questions.into(), door.into()),
            Err(none) if none.is_empty() => Ok(()),
            Err(_) => Err(Error::invalid("two sockets come with a container, or none")),
        }
    }

    fn open_sockets(&mut self, key: u64, questions: UdpSocket, door: TcpListener) -> Result<()> {
        if let Some(connected) = self.members.get_mut(&key) {
            connected.questions = Some((questions, None));
            connected.door = Some((door, None));
        }
        match self.expected.is_some() {
            true => Ok(()),
            false => self.listen_to(key),
        }
    }

    fn listen_to(&mut self, key: u64) -> Result<()> {
        if let Some(connected) = self.members.get_mut(&key) {
            if let Some((socket, token @ None)) = &mut connected.questions {
                *token = Some(self.poller.add(&*socket, Source::Questions(key), false)?);
            }
            if let Some((socket, token @ None)) = &mut connected.door {
                *token = Some(self.poller.add(&*socket, Source::Door(key), false)?);
            }
        }
        Ok(())
    }

    /// Whoever was there before us has come again, or will not: what is not known now is not there.
    fn listen_when_complete(&mut self) {
        let complete = |(expected, at): &mut (HashSet<String>, Instant)| expected.is_empty() || *at <= Instant::now();
        if self.expected.take_if(complete).is_some() {
            let keys: Vec<u64> = self.members.keys().copied().collect();
            for key in keys {
                // Their monitors are told of no error any more; the container asks in vain, as if we were not there.
                let _ = self.listen_to(key);
            }
        }
    }

    /// They keep the container's network namespace: when it ends they have to go.
    fn close_sockets(&mut self, key: u64) {
        let Some(connected) = self.members.get_mut(&key) else {
            return;
        };
        if let Some((socket, Some(token))) = connected.questions.take() {
            self.poller.remove(&socket, token);
        }
        if let Some((socket, Some(token))) = connected.door.take() {
            self.poller.remove(&socket, token);
        }
        self.forget_forwards_of(key);
        self.forget_callers_of(key);
    }

    fn forget(&mut self, key: u64) {
        self.close_sockets(key);
        if let Some(connected) = self.members.remove(&key) {
            self.poller.remove(&connected.socket, connected.token);
            self.registry.remove(key, &connected.member);
            self.unguard_member(key, &connected.member);
        }
        if self.members.is_empty() {
            self.alone_since = Some(Instant::now());
        }
    }

    fn take_questions(&mut self, key: u64, buffer: &mut [u8]) {
        for _ in 0..IN_A_ROW {
            let Some((socket, _)) = self.members.get(&key).and_then(|m| m.questions.as_ref()) else {
                return;
            };
            match socket.recv_from(buffer) {
                Ok((length, from)) => self.question(key, Asker::Datagram(from), &buffer[..length]),
                // Also what the kernel has to tell of an answer that nobody took.
                Err(_) => return,
            }
        }
    }

    /// Answers, or passes on.
    pub fn question(&mut self, key: u64, asker: Asker, bytes: &[u8]) {
        let query = match Query::parse(bytes) {
            Ok(query) => query,
            Err(Bad::Silence) => return,
            Err(Bad::Answer(code)) => return self.reply(key, asker, &wire::refusal(bytes, code)),
        };
        let room = match asker {
            Asker::Datagram(_) => query.room,
            Asker::Caller(_) => LONGEST,
        };
        match self.own_answer(key, &query) {
            Some((code, answers)) => self.reply(key, asker, &query.answer(bytes, code, &answers, room)),
            None => self.pass_on(key, asker, query, bytes),
        }
    }

    /// What is answered here: names and addresses of the asker's networks, and what must not leave.
    fn own_answer(&mut self, key: u64, query: &Query) -> Option<(u8, Vec<Data>)> {
        const INTERNET: u16 = 1;
        let member = &self.members.get(&key)?.member;
        if query.class != INTERNET {
            return Some((code::REFUSED, Vec::new()));
        }
        if let Some(address) = wire::reversed(&query.name) {
            match self.registry.name_of(member, address) {
                Reverse::Name(name) => {
                    let asked = [kind::PTR, kind::ANY].contains(&query.kind);
                    let answers = asked.then_some(Data::Name(name)).into_iter().collect();
                    return Some((code::GOOD, answers));
                }
                Reverse::Nobody => return Some((code::NO_SUCH_NAME, Vec::new())),
                Reverse::Foreign => {}
            }
        } else if let Some(addresses) = self.registry.find(member, &query.name) {
            let fits = |a: &std::net::IpAddr| match query.kind {
                kind::A => a.is_ipv4(),
                kind::AAAA => a.is_ipv6(),
                other => other == kind::ANY,
            };
            let answers = addresses.into_iter().filter(fits).map(Data::Address).collect();
            return Some((code::GOOD, answers));
        }
        member.is_isolated().then(|| (code::FAILED, Vec::new()))
    }

    /// Gives a message to who asked.
    pub fn reply(&mut self, key: u64, asker: Asker, message: &[u8]) {
        match asker {
            Asker::Datagram(to) => {
                if let Some((socket, _)) = self.members.get(&key).and_then(|m| m.questions.as_ref()) {
                    // A full buffer drops it, as the network might.
                    let _ = socket.send_to(message, to);
                }
            }
            Asker::Caller(caller) => self.answer_caller(caller, message),
        }
    }
}
