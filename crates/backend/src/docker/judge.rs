//! What the containers of an attempt mean for it. Pure.

use std::{collections::BTreeSet, time::Duration};

use super::{
    Patience,
    names::Role,
    render::{Crew, Member},
};
use crate::pod::{Cause, PodState, Why};

/// How a container stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// It was made and did not run yet.
    Created,
    /// It runs.
    Running,
    /// It ran, and will not again.
    Exited {
        /// Its exit code.
        code: i64,
        /// Whether the kernel killed it for want of memory.
        is_short: bool,
        /// What the engine says of its end or of what kept it from starting.
        error: String,
    },
}

/// A container as the engine shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) role: Role,
    pub(super) status: Status,
}

/// What is known besides what the engine shows.
#[derive(Clone, Debug, Default)]
pub(super) struct Beside {
    /// What keeps its containers from being made.
    pub(super) hold: Option<Why>,
    /// Whether all its containers were made and started.
    pub(super) is_made: bool,
    /// The services that were found ready.
    pub(super) ready: BTreeSet<String>,
    /// Whether the engine was away, and nobody knows what it did meanwhile.
    pub(super) was_away: bool,
}

/// Judges an attempt's containers at this moment, in seconds since 1970.
pub(super) fn judge(
    shown: &[Shown],
    crew: Option<&Crew>,
    beside: &Beside,
    patience: &Patience,
    now: i64,
) -> PodState {
    let status = |role: &Role| {
        shown
            .iter()
            .find(|shown| shown.role == *role)
            .map(|shown| &shown.status)
    };
    let lived_too_long = crew.is_some_and(|crew| crew.ends_at <= now);
    match status(&Role::Agent) {
        None if shown.is_empty() => PodState::Absent,
        None => PodState::Ended {
            reason: "its supervisor's container was removed".to_owned(),
        },
        Some(Status::Exited {
            code,
            is_short,
            error,
        }) => PodState::Ended {
            reason: ended(*code, *is_short, error, beside.was_away),
        },
        Some(Status::Created | Status::Running) if lived_too_long => PodState::Ended {
            reason: "its containers lived too long".to_owned(),
        },
        Some(Status::Created) => PodState::Waiting(beside.hold.clone()),
        Some(Status::Running) => {
            let members = crew.map_or(&[][..], |crew| &crew.members);
            let stands = |member: &Member| status(&Role::of_label(&member.role)?);
            let trouble = members
                .iter()
                .find_map(|member| trouble(member, stands(member), beside, patience));
            let unready = || {
                members
                    .iter()
                    .find_map(|member| unready(member, stands(member), beside, patience))
            };
            PodState::Running(beside.hold.clone().or(trouble).or_else(unready))
        }
    }
}

/// What ended the supervisor.
fn ended(code: i64, is_short: bool, error: &str, was_away: bool) -> String {
    let told = if is_short {
        "its supervisor ran out of memory".to_owned()
    } else if error.is_empty() {
        format!("its supervisor ended with code {code}")
    } else {
        format!("its supervisor cannot start: {error}")
    };
    if was_away {
        format!("the container engine went away and came back: {told}")
    } else {
        told
    }
}

/// What ended a container of the crew before its time.
fn trouble(member: &Member, status: Option<&Status>, beside: &Beside, patience: &Patience) -> Option<Why> {
    let why = |text, patience| {
        Some(Why {
            cause: Cause::Container,
            text,
            patience,
        })
    };
    let image = member.image();
    let service = service(member);
    match status {
        None if beside.is_made => why(
            match service {
                Some(name) => format!("the container of the service `{name}` was removed"),
                None => format!("the container of `{image}` was removed"),
            },
            Duration::ZERO,
        ),
        Some(Status::Exited { is_short: true, .. }) => why(
            format!("out of memory: the container of `{image}` wanted more than its limit"),
            patience.start,
        ),
        Some(Status::Exited { code, error, .. }) if *code != 0 => match service {
            Some(name) => why(
                format!("the service `{name}` ended with code {code}"),
                Duration::ZERO,
            ),
            None if error.is_empty() => why(
                format!("the container of `{image}` ended with code {code}"),
                patience.start,
            ),
            None => why(
                format!("the container of `{image}` cannot start: {error}"),
                Duration::ZERO,
            ),
        },
        None | Some(Status::Created | Status::Running | Status::Exited { .. }) => None,
    }
}

/// What ended the container of a step; none as long as it runs.
pub(super) fn container_end(status: Option<&Status>) -> Option<String> {
    match status {
        Some(Status::Exited { is_short: true, .. }) => {
            Some("out of memory: its container wanted more than its limit".to_owned())
        }
        Some(Status::Exited { code, error, .. }) if error.is_empty() => {
            Some(format!("its container ended with code {code}"))
        }
        Some(Status::Exited { error, .. }) => Some(format!("its container ended: {error}")),
        None => Some("its container was removed".to_owned()),
        Some(Status::Created | Status::Running) => None,
    }
}

fn unready(member: &Member, status: Option<&Status>, beside: &Beside, patience: &Patience) -> Option<Why> {
    let name = service(member)?;
    let is_ready = match member.ready {
        Some(_) => beside.ready.contains(&member.role),
        None => matches!(status, Some(Status::Running)),
    };
    (!is_ready).then(|| Why {
        cause: Cause::Service,
        text: format!("the service `{name}` is not ready yet"),
        patience: patience.service,
    })
}

fn service(member: &Member) -> Option<String> {
    match Role::of_label(&member.role)? {
        Role::Service(name) => Some(name.to_string()),
        Role::Agent | Role::Install | Role::Step(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use bollard::models::ContainerCreateBody;

    use super::*;

    const NOW: i64 = 1000;

    fn shown(role: &str, status: Status) -> Shown {
        Shown {
            role: Role::of_label(role).unwrap(),
            status,
        }
    }

    fn exited(code: i64, is_short: bool) -> Status {
        Status::Exited {
            code,
            is_short,
            error: String::new(),
        }
    }

    fn crew() -> Crew {
        let member = |role: &str, ready: Option<&str>| Member {
            role: role.to_owned(),
            ready: ready.map(str::to_owned),
            body: ContainerCreateBody {
                image: Some("busybox:1".to_owned()),
                ..ContainerCreateBody::default()
            },
        };
        Crew {
            install: None,
            members: vec![member("step-0", None), member("service-db", Some("true"))],
            ends_at: NOW + 1,
        }
    }

    fn of(shown: &[Shown], beside: &Beside) -> PodState {
        judge(shown, Some(&crew()), beside, &Patience::default(), NOW)
    }

    fn text(state: PodState) -> String {
        match state {
            PodState::Waiting(why) | PodState::Running(why) => why.map_or(String::new(), |why| why.text),
            PodState::Ended { reason } => reason,
            PodState::Absent => "absent".to_owned(),
            PodState::Going => "going".to_owned(),
        }
    }

    #[test]
    fn the_supervisor_decides() {
        let beside = Beside::default();
        assert_eq!(of(&[], &beside), PodState::Absent);
        assert_eq!(
            of(&[shown("agent", Status::Created)], &beside),
            PodState::Waiting(None)
        );
        let cases = [
            (
                vec![shown("agent", exited(1, false))],
                "its supervisor ended with code 1",
            ),
            (
                vec![shown("agent", exited(137, true))],
                "its supervisor ran out of memory",
            ),
            (
                vec![shown("step-0", Status::Running)],
                "its supervisor's container was removed",
            ),
        ];
        for (containers, wanted) in cases {
            assert_eq!(text(of(&containers, &beside)), wanted);
        }
        let mut old = crew();
        old.ends_at = NOW;
        let state = judge(
            &[shown("agent", Status::Running)],
            Some(&old),
            &beside,
            &Patience::default(),
            NOW,
        );
        assert_eq!(text(state), "its containers lived too long");
    }

    #[test]
    fn the_crew_may_hold_it_up() {
        let made = Beside {
            is_made: true,
            ..Beside::default()
        };
        let with = |step: Option<Status>, service: Status| {
            let step = step.map(|status| shown("step-0", status));
            let all: Vec<Shown> = [shown("agent", Status::Running), shown("service-db", service)]
                .into_iter()
                .chain(step)
                .collect();
            all
        };
        let running = || Some(Status::Running);
        let cases = [
            (
                with(running(), Status::Running),
                "the service `db` is not ready yet",
            ),
            (
                with(running(), exited(1, false)),
                "the service `db` ended with code 1",
            ),
            (
                with(None, Status::Running),
                "the container of `busybox:1` was removed",
            ),
            (
                with(Some(exited(137, true)), Status::Running),
                "out of memory: the container of `busybox:1` wanted more than its limit",
            ),
        ];
        for (containers, wanted) in cases {
            assert_eq!(text(of(&containers, &made)), wanted);
        }
        let ready = Beside {
            ready: BTreeSet::from(["service-db".to_owned()]),
            ..made
        };
        assert_eq!(
            of(&with(running(), Status::Running), &ready),
            PodState::Running(None)
        );
    }
}
