//! Who decides at gates, asked of real servers by real people, on both databases; on Postgres each word is said at another
//! server than the one before.

use std::{collections::BTreeMap, sync::Barrier, thread};

use serde_json::{Value, json};

use crate::{
    client::Client,
    driver::wait_until,
    fleet::Fleet,
    place::{Place, Scenario},
    server::Server,
    verify::equal,
};

const PASSWORD: &str = "correct horse battery";

/// Servers of one store, and people with their tokens. `ada` pushes; no user is linked to `zoe`.
struct Scene<'a> {
    place: &'a Place,
    servers: Vec<Client>,
    tokens: BTreeMap<&'static str, String>,
}

/// A run, by the number of its push.
struct Asked {
    run: u64,
    /// The branch that it is of.
    branch: &'static str,
}

#[test]
fn who_approves_is_judged_as_the_rules_say() {
    let place = Place::with(Scenario::Finish, include_str!("approvals.yaml"), |_| {
        "trusted = true\n".to_owned()
    });
    let server = Server::start(&place, None).unwrap();
    tell(&place, play(&place, vec![server.client()]));
    server.stop().unwrap();
}

#[test]
fn who_approves_at_which_server_of_postgres_is_judged_as_the_rules_say() {
    let Some(fleet) = Fleet::of(2, include_str!("approvals.yaml")) else {
        return;
    };
    fleet.performer(&[0, 1]).unwrap();
    tell(&fleet.place, play(&fleet.place, fleet.clients()));
}

fn tell(place: &Place, played: Result<(), String>) {
    if let Err(error) = played {
        panic!("{error}\n{}", place.told());
    }
}

fn play(place: &Place, servers: Vec<Client>) -> Result<(), String> {
    let mut scene = Scene {
        place,
        servers,
        tokens: BTreeMap::new(),
    };
    scene.people()?;
    scene.race()?;
    scene.own_request()?;
    scene.stranger()?;
    scene.role_removed()?;
    scene.changed_plan()?;
    scene.cancelled()?;
    scene.expired()
}

impl Scene<'_> {
    fn people(&mut self) -> Result<(), String> {
        for name in ["ada", "olga", "omar", "dev"] {
            let role = if name == "dev" { "developer" } else { "ops" };
            let mut identities = Vec::new();
            if name == "ada" {
                identities.push(json!({ "kind": "forge", "forge": "gitea", "login": "ada" }));
            }
            let user = json!({
                "password": PASSWORD,
                "grants": [{ "role": role }],
                "identities": identities,
            });
            let (status, said) = self.post(None, 0, &format!("/users/{name}/add"), &user)?;
            equal(&format!("adding {name}, {said}"), &status, &201)?;
            let login = json!({ "name": name, "password": PASSWORD, "label": "a test" });
            let (_, said) = self.post(None, 0, "/login", &login)?;
            let token = said["token"].as_str().ok_or(format!("{name}: {said}"))?;
            self.tokens.insert(name, token.to_owned());
        }
        Ok(())
    }

    /// Of many who approve at the same instant one decides, wherever they do.
    fn race(&self) -> Result<(), String> {
        let asked = self.push("race", "ada", 1)?;
        let body = self.subject(&asked, "one")?;
        let start = Barrier::new(8);
        let statuses = thread::scope(|scope| {
            let words: Vec<_> = (0..8)
                .map(|number| {
                    let name = if number % 2 == 0 { "olga" } else { "omar" };
                    let (start, body, path) = (&start, &body, asked.path("one", "approve"));
                    scope.spawn(move || {
                        start.wait();
                        self.post(Some(name), number / 2, &path, body)
                    })
                })
                .collect();
            let statuses = words.into_iter().map(|word| Ok(word.join().unwrap()?.0));
            statuses.collect::<Result<Vec<u16>, String>>()
        })?;
        let count = |wanted| statuses.iter().filter(|status| **status == wanted).count();
        equal(&format!("{statuses:?}: decisions"), &count(200), &1)?;
        equal(&format!("{statuses:?}: late words"), &count(409), &7)?;
        self.ends(&asked, "succeeded")?;
        equal("decisions", &self.events(&asked, "gate_approved")?, &1)
    }

    /// Whoever pushed says no or nothing; and who is not asked does not decide.
    fn own_request(&self) -> Result<(), String> {
        let asked = self.push("own", "ada", 2)?;
        self.approves(&asked, "one", "ada", (403, "you asked for this run"))?;
        self.approves(&asked, "one", "dev", (403, "role:ops"))?;
        self.approves(&asked, "one", "olga", (200, ""))?;
        self.ends(&asked, "succeeded")
    }

    /// A push by an account that is nobody's takes two, for one of them may be the one who pushed.
    fn stranger(&self) -> Result<(), String> {
        let asked = self.push("stranger", "zoe", 3)?;
        self.approves(&asked, "one", "olga", (200, ""))?;
        self.approves(&asked, "one", "olga", (409, ""))?;
        equal("decisions", &self.events(&asked, "gate_approved")?, &1)?;
        self.until(&asked, "one is not enough", |run| {
            node(run, "one")["state"] == "awaiting approval"
        })?;
        self.approves(&asked, "one", "omar", (200, ""))?;
        self.ends(&asked, "succeeded")
    }

    /// Whoever lost the role counts no more: the gate is open again, and nothing behind it has started.
    fn role_removed(&self) -> Result<(), String> {
        let asked = self.push("removed", "ada", 4)?;
        self.approves(&asked, "one", "omar", (200, ""))?;
        self.approves(&asked, "two", "olga", (200, ""))?;
        self.grants("olga", &json!([{ "role": "viewer" }]))?;
        self.approves(&asked, "two", "olga", (403, "role:ops"))?;
        self.approves(&asked, "two", "omar", (200, ""))?;
        self.grants("dev", &json!([{ "role": "ops" }]))?;
        self.until(&asked, "the gate asks again", |run| {
            let gate = node(run, "two");
            gate["state"] == "awaiting approval"
                && gate["gate"]["approvals"]
                    .as_array()
                    .is_some_and(|all| all.len() == 1)
        })?;
        self.approves(&asked, "two", "dev", (200, ""))?;
        self.ends(&asked, "succeeded")?;
        self.grants("olga", &json!([{ "role": "ops" }]))?;
        self.grants("dev", &json!([{ "role": "developer" }]))
    }

    /// What was asked of one plan is no answer to another one, and the older run takes no more answers.
    fn changed_plan(&self) -> Result<(), String> {
        let older = self.push("changed", "ada", 5)?;
        let subject = self.subject(&older, "one")?;
        self.place.change("echo changed");
        let newer = self.push("changed", "ada", 6)?;
        self.says(&older, ("one", "approve"), "olga", &subject, (409, ""))?;
        self.ends(&older, "superseded")?;
        self.subject(&newer, "one")?;
        self.says(&newer, ("one", "approve"), "olga", &subject, (409, "has changed"))?;
        equal("decisions", &self.events(&newer, "gate_approved")?, &0)?;
        self.approves(&newer, "one", "olga", (200, ""))?;
        self.ends(&newer, "succeeded")
    }

    /// After a cancel there is nothing to decide, also not in a run that does the same again.
    fn cancelled(&self) -> Result<(), String> {
        let asked = self.push("cancelled", "ada", 7)?;
        let subject = self.subject(&asked, "one")?;
        let (status, said) = self.post(Some("dev"), 0, &format!("/runs/{}/cancel", asked.run), &json!({}))?;
        equal(&format!("cancelling, {said}"), &status, &200)?;
        self.says(&asked, ("one", "approve"), "olga", &subject, (409, ""))?;
        self.ends(&asked, "cancelled")?;
        let retry = json!({ "which": "all" });
        let (status, said) = self.post(Some("dev"), 1, &format!("/runs/{}/retry", asked.run), &retry)?;
        equal(&format!("retrying, {said}"), &status, &201)?;
        let again = Asked {
            run: said["run"].as_u64().ok_or(format!("no run: {said}"))?,
            ..asked
        };
        self.subject(&again, "one")?;
        equal("decisions", &self.events(&again, "gate_approved")?, &0)?;
        self.approves(&again, "one", "dev", (403, ""))?;
        self.approves(&again, "one", "ada", (403, "you asked for this run"))?;
        self.approves(&again, "one", "olga", (200, ""))?;
        self.ends(&again, "succeeded")
    }

    /// What nobody answered in time is answered.
    fn expired(&self) -> Result<(), String> {
        let asked = self.push("late", "ada", 9)?;
        let subject = self.subject(&asked, "late")?;
        self.until(&asked, "the gate expires", |run| {
            node(run, "late")["outcome"] == "timed_out"
        })?;
        self.says(&asked, ("late", "approve"), "olga", &subject, (409, ""))?;
        self.approves(&asked, "one", "olga", (200, ""))?;
        self.until(&asked, "the run ends", |run| run["phase"] == "finished")?;
        let late = format!("{} late", asked.run);
        equal("what ran", &self.place.effects().contains(&late), &false)
    }

    /// A push to this branch, whose run has this number.
    fn push(&self, branch: &'static str, sender: &str, run: u64) -> Result<Asked, String> {
        let delivery = self.place.push_by(branch, sender);
        let answer = self.servers[0]
            .deliver(&delivery)
            .map_err(|error| error.to_string())?;
        equal("the delivery's answer", &answer.status, &202)?;
        let asked = Asked { run, branch };
        self.until(&asked, "there is a run", |found| found["ref"]["name"] == branch)?;
        Ok(asked)
    }

    /// What is approved at a gate, once it is open.
    fn subject(&self, asked: &Asked, gate: &str) -> Result<Value, String> {
        let mut subject = Value::Null;
        self.until(asked, &format!("`{gate}` opens"), |run| {
            subject = node(run, gate)["gate"]["subject"].clone();
            subject.is_string()
        })?;
        Ok(json!({ "subject": subject }))
    }

    /// Somebody approves what is asked, and hears this.
    fn approves(&self, asked: &Asked, gate: &str, name: &str, wanted: (u16, &str)) -> Result<(), String> {
        let body = self.subject(asked, gate)?;
        self.says(asked, (gate, "approve"), name, &body, wanted)
    }

    fn says(
        &self,
        asked: &Asked,
        (gate, word): (&str, &str),
        name: &str,
        body: &Value,
        (status, words): (u16, &str),
    ) -> Result<(), String> {
        let path = asked.path(gate, word);
        for server in 0..self.servers.len().min(2) {
            let (found, said) = self.post(Some(name), server, &path, body)?;
            // Once said, it is no news at another server.
            let wanted = if server > 0 && status == 200 { 409 } else { status };
            let what = format!("{name} says {word} to {gate} of {}: {said}", asked.branch);
            equal(&what, &found, &wanted)?;
            let has = said["detail"].as_str().unwrap_or_default().contains(words);
            equal(&what, &(has || words.is_empty()), &true)?;
        }
        Ok(())
    }

    fn grants(&self, name: &str, grants: &Value) -> Result<(), String> {
        let (status, said) = self.post(None, 1, &format!("/users/{name}"), &json!({ "grants": grants }))?;
        equal(&format!("granting {grants} to {name}: {said}"), &status, &200)
    }

    fn ends(&self, asked: &Asked, outcome: &str) -> Result<(), String> {
        self.until(asked, &format!("it ends {outcome}"), |run| {
            run["outcome"] == outcome
        })
    }

    fn events(&self, asked: &Asked, kind: &str) -> Result<usize, String> {
        let path = format!("/runs/{}/events?limit=500", asked.run);
        let history = self.servers[0]
            .get_json(&path)
            .map_err(|error| error.to_string())?;
        let events = history["events"].as_array().cloned().unwrap_or_default();
        Ok(events.iter().filter(|event| event["type"] == kind).count())
    }

    /// Waits until every server shows a run as wanted.
    fn until(&self, asked: &Asked, what: &str, mut is_so: impl FnMut(&Value) -> bool) -> Result<(), String> {
        let mut seen = Value::Null;
        for server in &self.servers {
            wait_until(&format!("{}: {what}", asked.branch), || {
                seen = server
                    .get_json(&format!("/runs/{}", asked.run))
                    .unwrap_or_default();
                Ok(is_so(&seen))
            })
            .map_err(|error| format!("{error}: {seen}"))?;
        }
        Ok(())
    }

    /// Somebody, or the server's own token, posts this at one of the servers.
    fn post(
        &self,
        name: Option<&str>,
        server: usize,
        path: &str,
        body: &Value,
    ) -> Result<(u16, Value), String> {
        let own = &self.servers[server % self.servers.len()];
        let token = name.and_then(|name| self.tokens.get(name));
        let client = Client {
            token: token.unwrap_or(&own.token).clone(),
            ..own.clone()
        };
        let answer = client
            .post(path, body)
            .map_err(|error| format!("{path}: {error}"))?;
        let said = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        Ok((answer.status, said))
    }
}

impl Asked {
    fn path(&self, gate: &str, word: &str) -> String {
        format!("/runs/{}/nodes/{gate}/{word}", self.run)
    }
}

fn node<'a>(run: &'a Value, name: &str) -> &'a Value {
    let nodes = run["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
    nodes
        .iter()
        .find(|node| node["name"] == name)
        .unwrap_or(&Value::Null)
}
