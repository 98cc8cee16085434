//! From a planned pod to what the engine is asked for. Pure, and an allow-list: what is not written here, no pipeline
//! file can bring into a container.

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount, MountType, MountVolumeOptions,
    VolumeCreateRequest,
};
use pipekeeper_model::AttemptId;
use serde::{Deserialize, Serialize};

use super::{
    DockerOptions,
    names::{self, Role},
};
use crate::{
    LaunchError, LaunchService, Placement, Tier,
    pod::{PodContainer, PodPlan, paths, thousandths},
};

/// What package managers and `su` want, and no more; the supervisor hands files from one step's user to the next one's.
const BASELINE: [&str; 6] = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETUID", "SETGID", "KILL"];
/// The user of what is trusted least.
const NOBODY: &str = "65532:65532";
/// What is kept of the output of a container whose output nobody is told of.
const LOG_LIMIT: &str = "10m";
/// The microseconds that a share of processor time is counted in.
const CPU_PERIOD: i64 = 100_000;
/// The volumes that come and go with the attempt.
const OWN: [&str; 5] = ["attempt", "tools", "workspace", "home", "out"];
/// The one of them that is never on a disk.
const SECRETS: &str = "secrets";

/// All that is made for an attempt.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pod {
    /// The supervisor's container; its label holds the crew.
    pub(super) agent: ContainerCreateBody,
    /// The volumes, also those that were there before and stay.
    pub(super) volumes: Vec<VolumeCreateRequest>,
}

/// What stands beside the supervisor.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Crew {
    /// What must have run before the supervisor starts.
    pub(super) install: Option<ContainerCreateBody>,
    /// The containers of steps and services.
    pub(super) members: Vec<Member>,
    /// When it has lived too long, in seconds since 1970.
    pub(super) ends_at: i64,
}

/// A container of steps or of a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Member {
    /// Its role, as its label says it.
    pub(super) role: String,
    /// The command in it that succeeds when it is ready.
    pub(super) ready: Option<String>,
    /// What the engine is asked for.
    pub(super) body: ContainerCreateBody,
}

impl Member {
    /// Its image.
    pub(super) fn image(&self) -> &str {
        self.body.image.as_deref().unwrap_or_default()
    }
}

/// What holds for every container of a pod.
struct Frame<'a> {
    plan: &'a PodPlan,
    options: &'a DockerOptions,
    agent_image: &'a str,
}

/// The pod of an attempt that begins at `now`, in seconds since 1970.
///
/// # Errors
/// If it asks for resources in a way that cannot be understood.
pub(super) fn render(
    plan: &PodPlan,
    options: &DockerOptions,
    agent_image: &str,
    now: i64,
) -> Result<Pod, LaunchError> {
    let frame = Frame {
        plan,
        options,
        agent_image,
    };
    let steps = plan.containers.iter().enumerate();
    let steps = steps.map(|(index, container)| frame.step(index, container));
    let services = plan.services.iter().map(|service| Ok(frame.service(service)));
    let crew = Crew {
        install: plan.wants_install().then(|| frame.install()),
        members: steps.chain(services).collect::<Result<_, _>>()?,
        ends_at: now.saturating_add(i64::try_from(plan.lifetime.0 / 1000).unwrap_or(i64::MAX)),
    };
    let text = serde_json::to_string(&crew).map_err(|error| LaunchError::Terminal {
        reason: format!("its containers cannot be described: {error}"),
    })?;
    let mut agent = frame.agent();
    agent
        .labels
        .get_or_insert_default()
        .insert(names::POD.to_owned(), text);
    Ok(Pod {
        agent,
        volumes: frame.volumes(),
    })
}

impl Frame<'_> {
    fn instance(&self) -> &str {
        &self.options.instance
    }

    fn attempt(&self) -> AttemptId {
        self.plan.attempt
    }

    fn placement(&self) -> &Placement {
        &self.plan.placement
    }

    fn volumes(&self) -> Vec<VolumeCreateRequest> {
        let own = |name: &str| VolumeCreateRequest {
            name: Some(names::volume(self.instance(), self.attempt(), name)),
            labels: Some(names::of_attempt(
                self.instance(),
                self.attempt(),
                self.placement(),
            )),
            ..VolumeCreateRequest::default()
        };
        let in_memory = self.plan.has_secret_files.then(|| VolumeCreateRequest {
            driver_opts: Some(memory()),
            ..own(SECRETS)
        });
        let caches = self.plan.volumes.iter().flat_map(|volume| {
            (0..volume.paths.len()).map(|index| VolumeCreateRequest {
                name: Some(names::cache_volume(
                    self.instance(),
                    self.placement(),
                    &volume.volume,
                    &volume.cache,
                    index,
                )),
                labels: Some(names::of_cache(self.instance(), self.placement(), &volume.cache)),
                ..VolumeCreateRequest::default()
            })
        });
        OWN.map(own).into_iter().chain(in_memory).chain(caches).collect()
    }

    /// The supervisor's: the one whose network all others share.
    fn agent(&self) -> ContainerCreateBody {
        let below = |name: &str| self.own(name, &format!("{}/{name}", paths::ATTEMPT), false);
        let mut mounts = vec![
            self.own("attempt", paths::ATTEMPT, false),
            below("workspace"),
            below("home"),
            below("out"),
            self.own("tools", paths::TOOLS, false),
        ];
        mounts.extend(self.plan.has_secret_files.then(|| below(SECRETS)));
        // Services answer under their names.
        let hosts = self
            .plan
            .services
            .iter()
            .map(|service| format!("{}:127.0.0.1", service.name));
        ContainerCreateBody {
            host_config: Some(HostConfig {
                extra_hosts: Some(hosts.collect()),
                // All that is left of a log whose supervisor is gone.
                log_config: Some(log(None)),
                network_mode: self.options.network.clone(),
                ..confined(mounts, Some(&BASELINE))
            }),
            ..self.own_program(&Role::Agent, "supervise")
        }
    }

    /// Puts the program in place before anything else, for images without a shell.
    fn install(&self) -> ContainerCreateBody {
        let mounts = vec![self.own("tools", paths::TOOLS, false)];
        ContainerCreateBody {
            host_config: Some(HostConfig {
                network_mode: Some("none".to_owned()),
                ..confined(mounts, Some(&BASELINE))
            }),
            ..self.own_program(&Role::Install, "install")
        }
    }

    fn own_program(&self, role: &Role, word: &str) -> ContainerCreateBody {
        ContainerCreateBody {
            image: Some(self.agent_image.to_owned()),
            entrypoint: Some(vec![paths::PROGRAM.to_owned(), word.to_owned()]),
            cmd: Some(Vec::new()),
            user: Some("0:0".to_owned()),
            ..self.container(role)
        }
    }

    fn step(&self, index: usize, container: &PodContainer) -> Result<Member, LaunchError> {
        let program = format!("{}/agent", paths::TOOLS);
        let entrypoint = if self.plan.wants_install() {
            vec![program, "step".to_owned(), index.to_string()]
        } else {
            // The supervisor puts the program there a moment after its own start.
            let wait = format!(
                "until [ -x {program} ]; do sleep 0.02 || sleep 1; done; exec {program} step {index}"
            );
            vec!["sh".to_owned(), "-c".to_owned(), wait]
        };
        let mut mounts = vec![
            self.own("workspace", paths::WORKSPACE, false),
            self.own("home", paths::HOME, false),
            self.own("out", paths::OUT, false),
            self.own("tools", paths::TOOLS, true),
        ];
        let has_secrets = self.plan.has_secret_files;
        mounts.extend(has_secrets.then(|| self.own(SECRETS, paths::SECRETS, false)));
        mounts.extend(self.caches());
        let role = Role::Step(index);
        Ok(Member {
            role: role.to_string(),
            ready: None,
            body: ContainerCreateBody {
                image: Some(container.image.clone()),
                entrypoint: Some(entrypoint),
                // An image's own arguments are none of ours.
                cmd: Some(Vec::new()),
                user: self.user(),
                host_config: Some(self.limited(self.beside_agent(mounts))?),
                ..self.container(&role)
            },
        })
    }

    fn service(&self, service: &LaunchService) -> Member {
        let role = Role::Service(service.name.clone());
        let env = service.env.iter().map(|(name, value)| format!("{name}={value}"));
        Member {
            role: role.to_string(),
            ready: service.ready.clone(),
            body: ContainerCreateBody {
                image: Some(service.image.clone()),
                env: Some(env.collect()),
                user: self.user(),
                host_config: Some(self.beside_agent(Vec::new())),
                ..self.container(&role)
            },
        }
    }

    fn container(&self, role: &Role) -> ContainerCreateBody {
        let mut labels = names::of_attempt(self.instance(), self.attempt(), self.placement());
        labels.insert(names::ROLE.to_owned(), role.to_string());
        ContainerCreateBody {
            labels: Some(labels),
            ..ContainerCreateBody::default()
        }
    }

    /// Other people's code is never root; the supervisor always is, and gives them their files.
    fn is_restricted(&self) -> bool {
        match self.placement().tier {
            Tier::Forks => true,
            Tier::Protected | Tier::Branches | Tier::Local => false,
        }
    }

    fn user(&self) -> Option<String> {
        self.is_restricted().then(|| NOBODY.to_owned())
    }

    fn beside_agent(&self, mounts: Vec<Mount>) -> HostConfig {
        let agent = names::container(self.instance(), self.attempt(), &Role::Agent);
        let capabilities = (!self.is_restricted()).then_some(&BASELINE);
        HostConfig {
            network_mode: Some(format!("container:{agent}")),
            ..confined(mounts, capabilities.map(|all| all.as_slice()))
        }
    }

    /// With the limits of the action: memory that is not there kills a neighbour; processor time is merely shared.
    fn limited(&self, config: HostConfig) -> Result<HostConfig, LaunchError> {
        let resources = &self.plan.resources;
        let memory = resources.memory.as_ref();
        let memory = memory.or(self.options.default_resources.memory.as_ref());
        let read = |key: &str, text: &String| {
            thousandths(text).ok_or_else(|| LaunchError::Terminal {
                reason: format!(
                    "`resources.{key}: {text}` is no quantity: write it like `500m`, `2`, `512Mi` or `4Gi`"
                ),
            })
        };
        let memory = memory.map(|text| read("memory", text)).transpose()?;
        let memory = memory.map(|thousandths| thousandths / 1000);
        let cpu = resources.cpu.as_ref().map(|text| read("cpu", text)).transpose()?;
        Ok(HostConfig {
            memory,
            // Swap would be no limit.
            memory_swap: memory,
            // As a quota, since the engine would refuse a number of CPUs that it does not have.
            cpu_period: cpu.map(|_| CPU_PERIOD),
            cpu_quota: cpu.map(|thousandths| thousandths.saturating_mul(CPU_PERIOD / 1000)),
            ..config
        })
    }

    fn caches(&self) -> impl Iterator<Item = Mount> {
        self.plan.volumes.iter().flat_map(|volume| {
            volume.paths.iter().enumerate().map(|(index, path)| {
                let name = names::cache_volume(
                    self.instance(),
                    self.placement(),
                    &volume.volume,
                    &volume.cache,
                    index,
                );
                mount(name, &paths::place(path), false)
            })
        })
    }

    fn own(&self, name: &str, target: &str, read_only: bool) -> Mount {
        mount(
            names::volume(self.instance(), self.attempt(), name),
            target,
            read_only,
        )
    }
}

fn mount(volume: String, target: &str, read_only: bool) -> Mount {
    Mount {
        typ: Some(MountType::VOLUME),
        source: Some(volume),
        target: Some(target.to_owned()),
        read_only: Some(read_only),
        volume_options: Some(MountVolumeOptions {
            // What an image has there is none of the attempt's.
            no_copy: Some(true),
            ..MountVolumeOptions::default()
        }),
        ..Mount::default()
    }
}

/// What makes a volume one in memory. It has no size, which Podman takes for a quota of the disk; what is written there
/// counts as its container's memory.
fn memory() -> HashMap<String, String> {
    [("type", "tmpfs"), ("device", "tmpfs"), ("o", "mode=0755")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// What holds for every container.
fn confined(mounts: Vec<Mount>, capabilities: Option<&[&str]>) -> HostConfig {
    let add = capabilities.unwrap_or_default();
    HostConfig {
        cap_add: Some(add.iter().map(|name| (*name).to_owned()).collect()),
        cap_drop: Some(vec!["ALL".to_owned()]),
        log_config: Some(log(Some(LOG_LIMIT))),
        mounts: Some(mounts),
        privileged: Some(false),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        ..HostConfig::default()
    }
}

/// Logs that can be read back, whatever the engine's default.
fn log(limit: Option<&str>) -> HostConfigLogConfig {
    let limit = limit.map(|limit| ("max-size".to_owned(), limit.to_owned()));
    HostConfigLogConfig {
        typ: Some("json-file".to_owned()),
        config: Some(HashMap::from_iter(limit)),
    }
}
