//! One run of twenty pods on a real cluster, whose server dies in every phase of their lives, one death after the other;
//! and one whose server comes back while the cluster's own API server is away.

use std::{
    env, fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    client::Client,
    driver::{Driver, wait_until},
    place::{Place, Scenario},
    server::Server,
    verify::{deliveries, equal, is_echo, left, tickets, tidied},
};

const PODS: usize = 20;
/// How long the API server is away, and within which time every log goes on once it is back.
const OUTAGE: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_secs(30);
/// Signals as `wait` tells them.
const ABORT: i32 = 6;
const KILL: i32 = 9;

/// Where the server dies while all pods are on their way or at work.
const BEFORE_THE_END: [&str; 5] = [
    "launched:10",
    "ticket_asked:8",
    "ticket_granted:4",
    "ticket_given:4",
    "log_grew:60",
];

/// Works on until it is told to end; the volume tells how often it began.
const WORK: &str = r#"
          echo "$PIPE_ACTION $PIPE_ATTEMPT" >> shared/begun
          set +x
          i=0
          while [ ! -e shared/go ]; do i=$((i + 1)); echo "line $i"; sleep 0.2; done
          echo "last $i"
"#;

/// A namespace in which the server may do what it needs and no more; it goes with the test.
struct Namespace(String);

impl Namespace {
    fn make() -> Self {
        let namespace = Self(format!("pipe-test-crash-{}", std::process::id()));
        let role = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/kubernetes/role.yaml");
        namespace.kubectl(&["create", "namespace", &namespace.0]);
        namespace.kubectl(&["apply", "--filename", role.to_str().unwrap()]);
        namespace.kubectl(&[
            "create",
            "rolebinding",
            "pipekeeper",
            "--role=pipekeeper",
            "--user=pipekeeper-test",
        ]);
        namespace
    }

    fn kubectl(&self, words: &[&str]) -> Vec<u8> {
        let output = Command::new("kubectl")
            .args(["--namespace", &self.0])
            .args(words)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "kubectl {words:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        output.stdout
    }

    fn pods(&self) -> Vec<Value> {
        let pods: Value = serde_json::from_slice(&self.kubectl(&["get", "pods", "--output=json"])).unwrap();
        pods["items"].as_array().unwrap().clone()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.kubectl(&["delete", "namespace", "--wait=false", &self.0]);
    }
}

/// Whether the cluster is that of `scripts/dev-cluster`, with a word about it where it is not.
fn is_dev_cluster() -> bool {
    let is_ours = env::var("KUBECONFIG").is_ok_and(|file| file.contains("pipekeeper-cluster"));
    let is_it = is_ours && env::var_os("PIPE_TEST_REGISTRY").is_some();
    if !is_it {
        let mut stderr = std::io::stderr();
        writeln!(stderr, "skipped: this needs the cluster of `scripts/dev-cluster`").unwrap();
    }
    is_it
}

fn make_place(namespace: &Namespace) -> Place {
    let registry = env::var("PIPE_TEST_REGISTRY").unwrap();
    let agent = env::var("PIPE_TEST_AGENT_IMAGE").unwrap_or_else(|_| format!("{registry}/pipekeeper/agent"));
    let kubeconfig = env::var("PIPE_TEST_SERVER_KUBECONFIG").unwrap();
    let actions: String = (0..PODS)
        .map(|number| format!("      - name: a{number}\n        cache: [shared]\n        run: |{WORK}"))
        .collect();
    let pipeline = format!(
        "on: {{ push: {{ branches: [main] }} }}\nimage: {registry}/busybox:1\n\
         caches: {{ shared: {{ paths: [shared], mode: volume, volume: host }} }}\n\
         actions:\n  - parallel:\n{actions}"
    );
    Place::with(Scenario::Finish, &pipeline, |place| {
        format!(
            "backend = \"dev\"\n\n[clusters.dev]\nkubeconfig = \"{kubeconfig}\"\nagent_image = \"{agent}\"\n\
             namespaces = {{ protected = \"{0}\", branches = \"{0}\", forks = \"{0}\" }}\n\
             volumes.host = {{ host_path = \"{1}\", nodes = {{ \"kubernetes.io/hostname\" = \"node1\" }} }}\n",
            namespace.0,
            place.path("volume").display(),
        )
    })
}

/// What all pods see as their folder `shared`.
fn shared(place: &Place) -> PathBuf {
    place.path("volume/web/protected/shared/0")
}

/// Nobody has asked how they ended: the containers of their steps have.
fn all_end_by_themselves(namespace: &Namespace) -> Result<(), String> {
    let has_ended = |pod: &Value| {
        let containers = pod["status"]["containerStatuses"].as_array();
        let mut steps = containers
            .into_iter()
            .flatten()
            .filter(|one| one["name"] == "step-0");
        steps.any(|step| step["state"]["terminated"].is_object())
    };
    wait_until("all steps end", || {
        let pods = namespace.pods();
        Ok(!pods.is_empty() && pods.iter().all(has_ended))
    })
}

/// The API server, away until this goes.
struct ApiOutage;

impl ApiOutage {
    fn begin() -> Self {
        dev_cluster("kill");
        Self
    }
}

impl Drop for ApiOutage {
    fn drop(&mut self) {
        dev_cluster("start");
    }
}

fn dev_cluster(verb: &str) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/dev-cluster");
    assert!(
        Command::new(script)
            .args([verb, "apiserver"])
            .status()
            .unwrap()
            .success()
    );
}

fn die_in_every_phase(place: &Place, namespace: &Namespace) -> Result<(), String> {
    let mut driver = Driver::new(place);
    for point in BEFORE_THE_END {
        let server = Server::start(place, Some(point))?;
        driver
            .until_death(server, None, ABORT)
            .map_err(|error| format!("{point}: {error}"))?;
    }
    equal("pods in flight", &namespace.pods().len(), &PODS)?;
    fs::write(shared(place).join("go"), "").map_err(|error| error.to_string())?;
    driver.until_death(Server::start(place, Some("end_seen:3"))?, None, ABORT)?;
    all_end_by_themselves(namespace)?;
    driver.until_death(Server::start(place, Some("end_committed:3"))?, None, ABORT)?;
    driver.until_death(Server::start(place, None)?, Some(Instant::now()), KILL)?;
    let server = Server::start(place, None)?;
    end_well(place, namespace, driver, server)
}

fn come_back_in_an_outage(place: &Place, namespace: &Namespace) -> Result<(), String> {
    let mut driver = Driver::new(place);
    driver.until_death(Server::start(place, Some("log_grew:200"))?, None, ABORT)?;
    equal("pods in flight", &namespace.pods().len(), &PODS)?;
    let outage = ApiOutage::begin();
    let begun = Instant::now();
    let server = Server::start(place, None)?;
    let client = server.client();
    wait_until("the outage is over", || Ok(begun.elapsed() > OUTAGE))?;
    let before = log_sizes(&client)?;
    drop(outage);
    let back = Instant::now();
    wait_until("every log goes on", || {
        let now = log_sizes(&client)?;
        Ok(before.iter().zip(&now).all(|(before, now)| before < now))
    })?;
    if back.elapsed() > SOON {
        return Err(format!("every log goes on only after {:?}", back.elapsed()));
    }
    fs::write(shared(place).join("go"), "").map_err(|error| error.to_string())?;
    end_well(place, namespace, driver, server)
}

fn log_sizes(client: &Client) -> Result<Vec<usize>, String> {
    let size = |number| {
        let log = client.get(&format!("/runs/1/nodes/a{number}/log"));
        log.map(|log| log.len()).map_err(|error| error.to_string())
    };
    (0..PODS).map(size).collect()
}

/// Goes on to the end of the run, and compares.
fn end_well(
    place: &Place,
    namespace: &Namespace,
    mut driver: Driver<'_>,
    mut server: Server,
) -> Result<(), String> {
    let client = server.client();
    driver.until_end(&mut server)?;
    served(place, &client)?;
    tidied(place)?;
    wait_until("no pod is left", || Ok(namespace.pods().is_empty()))?;
    server.stop()?;
    left(place)
}

/// Every action succeeded in its first attempt, began once, and its log is whole.
fn served(place: &Place, client: &Client) -> Result<(), String> {
    let get = |path: &str| client.get_json(path).map_err(|error| error.to_string());
    deliveries(&get("/deliveries")?)?;
    let run = get("/runs/1")?;
    equal("the run's outcome", &run["outcome"], &Value::from("succeeded"))?;
    let history = get("/runs/1/events?limit=500")?;
    let mut expected = Vec::new();
    for number in 0..PODS {
        let name = format!("a{number}");
        let nodes = run["nodes"].as_array().into_iter().flatten();
        let attempts = nodes
            .filter(|node| node["name"] == name.as_str())
            .map(|node| &node["attempts"]);
        let attempts: Vec<_> = attempts.flat_map(|all| all.as_array()).flatten().collect();
        equal(&format!("attempts of `{name}`"), &attempts.len(), &1)?;
        equal(&format!("tickets of `{name}`"), &tickets(&history, &name), &1)?;
        let log = client
            .get(&format!("/runs/1/nodes/{name}/log"))
            .map_err(|error| error.to_string())?;
        let size = Value::from(log.len());
        equal(&format!("log size of `{name}`"), &attempts[0]["log_bytes"], &size)?;
        whole(&name, &String::from_utf8_lossy(&log))?;
        expected.push(format!("{name} 1"));
    }
    let begun = fs::read_to_string(shared(place).join("begun")).map_err(|error| error.to_string())?;
    let mut begun: Vec<_> = begun.lines().map(str::to_owned).collect();
    begun.sort();
    expected.sort();
    equal("what began", &begun, &expected)
}

/// The lines are numbered, and the last one says how many there are.
fn whole(name: &str, log: &str) -> Result<(), String> {
    let found: Vec<&str> = log.lines().filter(|line| !is_echo(line)).collect();
    let count = found.len().saturating_sub(1);
    let mut wanted: Vec<String> = (1..=count).map(|number| format!("line {number}")).collect();
    wanted.push(format!("last {count}"));
    equal(
        &format!("the log of `{name}`"),
        &found,
        &wanted.iter().map(String::as_str).collect(),
    )
}

fn play(how: impl FnOnce(&Place, &Namespace) -> Result<(), String>) {
    if !is_dev_cluster() {
        return;
    }
    let namespace = Namespace::make();
    let place = make_place(&namespace);
    let played = how(&place, &namespace);
    assert!(played.is_ok(), "{}\n{}", played.unwrap_err(), place.told());
}

#[test]
fn slow_twenty_pods_outlive_deaths_in_every_phase() {
    play(die_in_every_phase);
}

#[test]
fn slow_outage_of_the_api_server_in_which_the_server_restarts() {
    play(come_back_in_an_outage);
}
