//! Whether, and when, a container that ended is started again.

use std::time::{Duration, Instant};

use engine::container::Record;
use engine::link::Exit;
use engine::models::RestartPolicyNameEnum;

/// The first pause; each is twice the one before.
const FIRST: Duration = Duration::from_millis(100);
/// No pause is longer.
const LONGEST: Duration = Duration::from_secs(60);
/// A run this long makes the next pause the first again.
const STEADY: Duration = Duration::from_secs(10);

/// The policy, and how often it has acted.
pub struct Restart {
    policy: RestartPolicyNameEnum,
    most: i64,
    pause: Duration,
    /// How often the container was started again.
    pub count: u32,
    /// Somebody stopped it by hand.
    pub forbidden: bool,
}

impl Restart {
    /// The policy of a container.
    pub fn new(record: &Record) -> Self {
        let policy = record.host().restart_policy.clone().unwrap_or_default();
        Restart {
            policy: policy.name.unwrap_or(RestartPolicyNameEnum::EMPTY),
            most: policy.maximum_retry_count.unwrap_or(0),
            pause: FIRST,
            count: 0,
            forbidden: false,
        }
    }

    /// The container's policy is another from now on.
    pub fn change(&mut self, record: &Record) {
        let new = Restart::new(record);
        (self.policy, self.most) = (new.policy, new.most);
    }

    /// When to start it again, if at all.
    pub fn after(&mut self, exit: &Exit, started: Instant) -> Option<Instant> {
        use RestartPolicyNameEnum::*;
        let again = match self.policy {
            ALWAYS | UNLESS_STOPPED => true,
            ON_FAILURE => exit.code != 0 && (self.most == 0 || i64::from(self.count) < self.most),
            EMPTY | NO => false,
        };
        if !again || self.forbidden {
            return None;
        }
        if started.elapsed() > STEADY {
            self.pause = FIRST;
        }
        let at = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(LONGEST);
        self.count += 1;
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn restart(policy: RestartPolicyNameEnum, most: i64) -> Restart {
        Restart {
            policy,
            most,
            pause: FIRST,
            count: 0,
            forbidden: false,
        }
    }

    #[test]
    fn failures_are_retried_as_often_as_asked() {
        let exit = |code| Exit {
            code,
            ..Default::default()
        };
        let mut on_failure = restart(RestartPolicyNameEnum::ON_FAILURE, 2);
        assert!(on_failure.after(&exit(0), Instant::now()).is_none());
        assert!(on_failure.after(&exit(1), Instant::now()).is_some());
        assert!(on_failure.after(&exit(1), Instant::now()).is_some());
        assert!(on_failure.after(&exit(1), Instant::now()).is_none());
        let mut always = restart(RestartPolicyNameEnum::ALWAYS, 0);
        assert!(always.after(&exit(0), Instant::now()).is_some());
        always.forbidden = true;
        assert!(always.after(&exit(0), Instant::now()).is_none());
        assert!(
            restart(RestartPolicyNameEnum::NO, 0)
                .after(&exit(1), Instant::now())
                .is_none()
        );
    }

    #[test]
    fn pauses_double_up_to_a_minute() {
        let mut always = restart(RestartPolicyNameEnum::ALWAYS, 0);
        for _ in 0..20 {
            always.after(&Exit::default(), Instant::now());
        }
        assert_eq!(always.pause, LONGEST);
    }
}
