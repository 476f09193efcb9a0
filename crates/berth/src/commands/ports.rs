//! Published ports in one line, as `ps` shows them (docker/cli `formatter.DisplayablePorts`).

use engine::models::PortSummary;

/// `0.0.0.0:8080->80/tcp, [::]:9000-9002->9000-9002/udp, 53/udp`: those that follow each other together.
pub fn line(ports: &[PortSummary]) -> String {
    struct Group {
        ip: String,
        protocol: String,
        public: Option<u16>,
        private: u16,
        count: u16,
    }
    let mut sorted: Vec<&PortSummary> = ports.iter().collect();
    sorted.sort_by_key(|p| {
        (
            p.ip.clone(),
            p.typ.map(|t| t.to_string()),
            p.private_port,
            p.public_port,
        )
    });
    let mut groups: Vec<Group> = Vec::new();
    for port in sorted {
        let ip = match port.ip.as_deref().unwrap_or_default() {
            ip if ip.contains(':') => format!("[{ip}]"),
            ip => ip.to_owned(),
        };
        let protocol = port.typ.map_or_else(|| "tcp".into(), |t| t.to_string());
        if let Some(last) = groups.last_mut()
            && (&last.ip, &last.protocol) == (&ip, &protocol)
            && last.private.checked_add(last.count) == Some(port.private_port)
            && last.public.map(|p| p.wrapping_add(last.count)) == port.public_port
        {
            last.count += 1;
            continue;
        }
        groups.push(Group {
            ip,
            protocol,
            public: port.public_port,
            private: port.private_port,
            count: 1,
        });
    }
    let range = |first: u16, count: u16| match count {
        1 => first.to_string(),
        more => format!("{first}-{}", first + more - 1),
    };
    let shown = |g: &Group| match g.public {
        Some(public) => format!(
            "{}:{}->{}/{}",
            g.ip,
            range(public, g.count),
            range(g.private, g.count),
            g.protocol
        ),
        None => format!("{}/{}", range(g.private, g.count), g.protocol),
    };
    groups.sort_by_key(|g| g.public.is_none());
    groups.iter().map(shown).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::models::PortSummaryTypeEnum;

    #[test]
    fn ports_that_follow_each_other_are_shown_together() {
        let port = |ip: &str, public: Option<u16>, private: u16| PortSummary {
            ip: (!ip.is_empty()).then(|| ip.to_owned()),
            private_port: private,
            public_port: public,
            typ: Some(PortSummaryTypeEnum::TCP),
        };
        let list = [
            port("", None, 443),
            port("0.0.0.0", Some(9000), 90),
            port("0.0.0.0", Some(9001), 91),
            port("::", Some(80), 80),
        ];
        assert_eq!(line(&list), "0.0.0.0:9000-9001->90-91/tcp, [::]:80->80/tcp, 443/tcp");
    }
}
