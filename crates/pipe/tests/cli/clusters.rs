//! One run on two real clusters, one of which is cut off for a while: the one that `KUBECONFIG` names and the second
//! control plane of `scripts/dev-cluster`.

use std::{
    env, fs,
    io::Write as _,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    client::Site,
    support::{Called, User, called},
};

const PATIENCE: Duration = Duration::from_secs(180);

const FILE: &str = "on: { manual: true }
image: REGISTRY/busybox:1
actions:
  - parallel:
      - serial:
          - { name: near-1, run: 'echo near' }
          - { name: near-2, run: 'echo near' }
          - { name: near-3, run: 'echo near' }
      - serial:
          - name: far-1
            cluster: far
            run: 'i=0; while [ $i -lt 150 ]; do echo line $i; i=$((i+1)); sleep 0.1; done'
          - { name: far-2, cluster: far, run: 'echo far' }
";

/// A network to a cluster that can be cut.
struct Network {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    is_cut: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

impl Network {
    fn to(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let network = Self {
            address: listener.local_addr().unwrap(),
            state: Arc::default(),
        };
        let state = Arc::clone(&network.state);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if !state.is_cut.load(Ordering::SeqCst)
                    && let Ok(server) = TcpStream::connect(&target)
                {
                    state.join(&client, &server);
                }
            }
        });
        network
    }

    /// Ends what is open and refuses what comes.
    fn cut(&self) {
        self.state.is_cut.store(true, Ordering::SeqCst);
        for stream in self.state.open.lock().unwrap().drain(..) {
            // It may have ended before.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn mend(&self) {
        self.state.is_cut.store(false, Ordering::SeqCst);
    }
}

impl State {
    fn join(&self, client: &TcpStream, server: &TcpStream) {
        for (from, to) in [(client, server), (server, client)] {
            self.open.lock().unwrap().push(from.try_clone().unwrap());
            let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
            thread::spawn(move || {
                // Whatever ends one way ends the other.
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Both);
                let _ = from.shutdown(Shutdown::Both);
            });
        }
    }
}

/// The second cluster; one that was not there before goes with this.
struct Second {
    kubeconfig: PathBuf,
    was_there: bool,
}

impl Drop for Second {
    fn drop(&mut self) {
        if !self.was_there {
            let ended = dev_cluster(&["second", "down"]);
            drop(write!(std::io::stderr(), "{}", ended.err));
        }
    }
}

/// The second cluster; none, with a word about it, where there is none to be had.
fn second_cluster() -> Option<Second> {
    if !is_dev_cluster() {
        return None;
    }
    let was_there = kubeconfig_of_second().is_some();
    dev_cluster(&["up", "--second"]).expect(0);
    Some(Second {
        kubeconfig: kubeconfig_of_second().unwrap(),
        was_there,
    })
}

/// Whether the cluster is that of `scripts/dev-cluster`, with a word about it where it is not.
pub(crate) fn is_dev_cluster() -> bool {
    let is_ours = env::var("KUBECONFIG").is_ok_and(|file| file.contains("pipekeeper-cluster"));
    let is_it = is_ours && env::var_os("PIPE_TEST_REGISTRY").is_some();
    if !is_it {
        drop(writeln!(
            std::io::stderr(),
            "skipped: this needs the clusters of `scripts/dev-cluster`"
        ));
    }
    is_it
}

fn kubeconfig_of_second() -> Option<PathBuf> {
    let exports = dev_cluster(&["env"]).expect(0).out;
    let file = exports
        .lines()
        .find_map(|line| line.strip_prefix("export PIPE_TEST_SECOND_KUBECONFIG="));
    file.map(PathBuf::from)
}

pub(crate) fn dev_cluster(arguments: &[&str]) -> Called {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/dev-cluster");
    called(Command::new(script).args(arguments))
}

/// Removes the namespaces of a test at its end.
struct Namespaces {
    kubeconfigs: [PathBuf; 2],
    name: String,
}

impl Namespaces {
    fn make(kubeconfigs: [PathBuf; 2], name: String) -> Self {
        let namespaces = Self { kubeconfigs, name };
        for called in namespaces.ask(&["create", "namespace"]) {
            called.expect(0);
        }
        namespaces
    }

    fn ask(&self, words: &[&str]) -> Vec<Called> {
        let asked = self.kubeconfigs.iter().map(|file| {
            let mut command = Command::new("kubectl");
            called(command.args(words).arg(&self.name).arg("--kubeconfig").arg(file))
        });
        asked.collect()
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for called in self.ask(&["delete", "namespace", "--wait=false"]) {
            drop(write!(std::io::stderr(), "{}{}", called.out, called.err));
        }
    }
}

fn node(site: &Site, name: &str) -> Value {
    let shown = site.call(&["show", "1", "--output", "json"]).expect(0);
    let run: Value = serde_json::from_str(&shown.out).unwrap();
    let nodes = run["nodes"].as_array().unwrap();
    nodes.iter().find(|node| node["name"] == name).unwrap().clone()
}

fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        thread::yield_now();
    }
}

#[test]
fn slow_only_the_actions_of_a_cluster_that_is_cut_off_wait() {
    let Some(second) = second_cluster() else { return };
    let first = PathBuf::from(env::var("KUBECONFIG").unwrap());
    let registry = env::var("PIPE_TEST_REGISTRY").unwrap();
    let agent = env::var("PIPE_TEST_AGENT_IMAGE").unwrap_or_else(|_| format!("{registry}/pipekeeper/agent"));
    let text = fs::read_to_string(&second.kubeconfig).unwrap();
    let server = text.split("https://").nth(1).unwrap();
    let server = server.split(['"', '\n', ' ', '/']).next().unwrap().to_owned();
    let network = Network::to(server.clone());

    let folder = User::new();
    let behind = folder.path("far.kubeconfig");
    fs::write(&behind, text.replace(&server, &network.address.to_string())).unwrap();
    let name = format!("pipe-test-two-{}", std::process::id());
    let cluster = |cluster: &str, file: &Path| {
        format!(
            "[clusters.{cluster}]\nkubeconfig = \"{}\"\nagent_image = \"{agent}\"\n\
             namespaces = {{ protected = \"{name}\", branches = \"{name}\", forks = \"{name}\" }}\n",
            file.display()
        )
    };
    let config = format!(
        "backend = \"near\"\n{}{}",
        cluster("near", &first),
        cluster("far", &behind)
    );
    let _namespaces = Namespaces::make([first, second.kubeconfig.clone()], name);
    let site = Site::configured(&FILE.replace("REGISTRY", &registry), &config);
    site.call(&["start", "web", "web"]).expect(0);
    eventually("a step far away", || {
        let log = site.call(&["logs", "1/far-1"]);
        assert!(
            node(&site, "far-1")["outcome"].is_null(),
            "{}",
            node(&site, "far-1")
        );
        log.out.contains("line 3\n")
    });
    network.cut();
    eventually("the end of what is near", || {
        node(&site, "near-3")["outcome"] == "succeeded"
    });
    eventually("the cause", || {
        let why = site.call(&["why", "1/far-1"]).expect(0);
        why.out.contains("cannot be reached")
    });
    assert_eq!(node(&site, "far-1")["state"], "running");
    assert_eq!(node(&site, "far-2")["outcome"], Value::Null);
    network.mend();
    eventually("the end of all", || {
        node(&site, "far-2")["outcome"] == "succeeded"
    });
    let log = site.call(&["logs", "1/far-1"]).expect(0).out;
    let numbers: Vec<&str> = log
        .lines()
        .filter_map(|line| line.strip_prefix("line "))
        .collect();
    let expected: Vec<String> = (0..150).map(|number: u32| number.to_string()).collect();
    assert_eq!(numbers, expected, "{log}");
}
