//! Who is called what on which network.

use std::collections::HashMap;
use std::net::IpAddr;

use engine::names::{Member, Place};

/// A network and a name, in lower case, or an address on it.
type Named = (String, String);
type Addressed = (String, IpAddr);

/// The names of all members, each under its key.
#[derive(Default)]
pub struct Registry {
    names: HashMap<Named, Vec<(u64, IpAddr)>>,
    addresses: HashMap<Addressed, Vec<(u64, String)>>,
    /// Which of several is first in the next answer.
    turn: usize,
}

/// What is known of an address.
#[derive(Debug, PartialEq)]
pub enum Reverse {
    /// It is that of a container, which is called so.
    Name(String),
    /// It is of a network that the asker is on, and nobody has it.
    Nobody,
    /// It is none of ours.
    Foreign,
}

impl Registry {
    /// It is found from now on.
    pub fn add(&mut self, key: u64, member: &Member) {
        for place in &member.places {
            for name in keys(place) {
                let list = self.names.entry(name).or_default();
                list.extend(place.addresses.iter().map(|subnet| (key, subnet.address)));
            }
            if let Some(first) = place.names.first() {
                for subnet in &place.addresses {
                    let list = self
                        .addresses
                        .entry((place.network.clone(), subnet.address))
                        .or_default();
                    list.push((key, format!("{first}.{}", place.called)));
                }
            }
        }
    }

    /// It is not found any more. `member` is what was added.
    pub fn remove(&mut self, key: u64, member: &Member) {
        for place in &member.places {
            for name in keys(place) {
                forget(&mut self.names, name, key);
            }
            for subnet in &place.addresses {
                forget(&mut self.addresses, (place.network.clone(), subnet.address), key);
            }
        }
    }

    /// The addresses of a name as one member sees it, another one first each time; `None`: nobody is called so.
    pub fn find(&mut self, asker: &Member, name: &str) -> Option<Vec<IpAddr>> {
        let linked = asker.links.iter().find(|(alias, _)| alias.eq_ignore_ascii_case(name));
        let name = linked.map_or(name.to_owned(), |(_, target)| target.to_ascii_lowercase());
        let mut found = asker
            .places
            .iter()
            .filter(|place| !place.names.is_empty())
            .find_map(|place| self.names.get(&(place.network.clone(), name.clone())))
            .map(|list| list.iter().map(|(_, address)| *address).collect::<Vec<_>>())?;
        self.turn = self.turn.wrapping_add(1);
        let first = self.turn % found.len().max(1);
        found.rotate_left(first);
        Some(found)
    }

    /// What an address is called, as one member sees it.
    pub fn name_of(&self, asker: &Member, address: IpAddr) -> Reverse {
        let own = || asker.places.iter().filter(|place| !place.names.is_empty());
        let name = own()
            .find_map(|place| self.addresses.get(&(place.network.clone(), address)))
            .and_then(|list| list.first());
        match name {
            Some((_, name)) => Reverse::Name(name.clone()),
            None if own().any(|p| p.addresses.iter().any(|s| s.contains(address))) => Reverse::Nobody,
            None => Reverse::Foreign,
        }
    }
}

/// Its names, plain and with that of the network.
fn keys(place: &Place) -> impl Iterator<Item = Named> + '_ {
    let mut names: Vec<String> = place.names.iter().map(|name| name.to_ascii_lowercase()).collect();
    names.sort_unstable();
    names.dedup();
    let called = place.called.to_ascii_lowercase();
    names.into_iter().flat_map(move |name| {
        let long = format!("{name}.{called}");
        [name, long].map(|name| (place.network.clone(), name))
    })
}

fn forget<K: std::hash::Hash + Eq, V>(map: &mut HashMap<K, Vec<(u64, V)>>, at: K, key: u64) {
    if let Some(list) = map.get_mut(&at) {
        list.retain(|(owner, _)| *owner != key);
        if list.is_empty() {
            map.remove(&at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: &str, network: &str, names: &[&str], address: &str) -> Member {
        Member {
            id: id.into(),
            places: vec![Place {
                network: network.into(),
                called: "Net".into(),
                internal: false,
                names: names.iter().map(ToString::to_string).collect(),
                addresses: vec![address.parse().unwrap()],
                guard: None,
            }],
            links: vec![("db".into(), "two".into())],
            ..Default::default()
        }
    }

    #[test]
    fn names_are_those_of_ones_networks() {
        let mut registry = Registry::default();
        let one = member("1", "n", &["One", "svc"], "10.0.0.1/24");
        let two = member("2", "n", &["two", "svc"], "10.0.0.2/24");
        let other = member("3", "m", &["one"], "10.1.0.1/24");
        for (key, member) in [(1, &one), (2, &two), (3, &other)] {
            registry.add(key, member);
        }
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(registry.find(&two, "one"), Some(vec![address("10.0.0.1")]));
        assert_eq!(registry.find(&two, "one.net"), Some(vec![address("10.0.0.1")]));
        assert_eq!(registry.find(&other, "one"), Some(vec![address("10.1.0.1")]));
        assert_eq!(registry.find(&other, "two"), None);
        assert_eq!(registry.find(&one, "db"), Some(vec![address("10.0.0.2")]), "by link");
        let (a, b) = (registry.find(&one, "svc").unwrap(), registry.find(&one, "svc").unwrap());
        assert!(a.len() == 2 && a != b, "{a:?} {b:?}");
        assert_eq!(
            registry.name_of(&two, address("10.0.0.1")),
            Reverse::Name("One.Net".into())
        );
        assert_eq!(registry.name_of(&two, address("10.0.0.9")), Reverse::Nobody);
        assert_eq!(registry.name_of(&two, address("10.1.0.1")), Reverse::Foreign);
        registry.remove(1, &one);
        assert_eq!(registry.find(&two, "svc"), Some(vec![address("10.0.0.2")]));
        assert_eq!(registry.name_of(&two, address("10.0.0.1")), Reverse::Nobody);
        registry.remove(2, &two);
        registry.remove(3, &other);
        assert!(registry.names.is_empty() && registry.addresses.is_empty());
    }
}
