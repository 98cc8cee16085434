//! Several backends as one: each project has its own, and an action may name a cluster. Entry type: [`Router`].

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use async_trait::async_trait;
use pipekeeper_model::{AttemptId, Holder, Millis, Name, plan::Feature};

use crate::{
    Backend, Capacity, DebugOrder, EnterOrder, Entered, Launch, LaunchError, Placement, Terminal, Ticket,
};

/// Sends every attempt to the backend of its project, or to the cluster that its action names.
pub struct Router {
    backends: Vec<Arc<dyn Backend>>,
    /// Those that actions may name, by their place above.
    clusters: BTreeMap<Name, usize>,
    /// The backend of each project, by its place above.
    projects: BTreeMap<Name, usize>,
    nothing: BTreeSet<Feature>,
}

impl Router {
    /// A router that knows no backend yet.
    pub fn new() -> Self {
        Self {
            backends: Vec::new(),
            clusters: BTreeMap::new(),
            projects: BTreeMap::new(),
            nothing: BTreeSet::new(),
        }
    }

    /// Adds a backend, with the name by which actions choose it if it is a cluster; its number.
    pub fn add(&mut self, cluster: Option<Name>, backend: Arc<dyn Backend>) -> usize {
        let number = self.backends.len();
        self.backends.push(backend);
        self.clusters.extend(cluster.map(|name| (name, number)));
        number
    }

    /// Sends the attempts of a project to the backend of this number.
    pub fn send(&mut self, project: Name, number: usize) {
        self.projects.insert(project, number);
    }

    /// Where something of an attempt is kept.
    fn keeper(&self, attempt: AttemptId) -> Option<&Arc<dyn Backend>> {
        self.backends.iter().find(|backend| backend.knows(attempt))
    }

    /// Who answers for an attempt: its keeper, or, for one that nobody knows, any.
    fn answerer(&self, attempt: AttemptId) -> Result<&Arc<dyn Backend>, LaunchError> {
        let none = || LaunchError::Terminal {
            reason: "this server has no place to run anything".to_owned(),
        };
        self.keeper(attempt).or(self.backends.first()).ok_or_else(none)
    }

    /// Who must hear that an attempt is not wanted: its keeper, or, as a pod may be there that nobody knows of, all.
    fn concerned(&self, attempt: AttemptId) -> &[Arc<dyn Backend>] {
        let keeper = self.backends.iter().position(|backend| backend.knows(attempt));
        let keeper = keeper.and_then(|at| self.backends.get(at..=at));
        keeper.unwrap_or(&self.backends)
    }

    fn chosen(&self, project: &Name, cluster: Option<&Name>) -> Result<&Arc<dyn Backend>, LaunchError> {
        let terminal = |reason| LaunchError::Terminal { reason };
        let number = match cluster {
            Some(cluster) => self.clusters.get(cluster).ok_or_else(|| {
                let known: Vec<&str> = self.clusters.keys().map(Name::as_str).collect();
                terminal(format!(
                    "this server has no cluster `{cluster}`; it has: {}",
                    known.join(", ")
                ))
            }),
            // Another server may have heard of it first, or what it is made of is away.
            None => self.projects.get(project).ok_or_else(|| LaunchError::Transient {
                reason: format!("the project `{project}` is not known here"),
            }),
        }?;
        let backend = self.backends.get(*number);
        backend.ok_or_else(|| terminal("it has no backend".to_owned()))
    }
}

impl Default for Router {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Backend for Router {
    fn supports(&self, project: &Name) -> &BTreeSet<Feature> {
        let backend = self
            .projects
            .get(project)
            .and_then(|number| self.backends.get(*number));
        backend.map_or(&self.nothing, |backend| backend.supports(project))
    }

    fn clusters(&self) -> BTreeMap<Name, &BTreeSet<Feature>> {
        let known = self.clusters.iter();
        known
            .filter_map(|(name, number)| Some((name.clone(), self.backends.get(*number)?.supports(name))))
            .collect()
    }

    fn capacity(&self, project: &Name, cluster: Option<&Name>) -> Option<Capacity> {
        let place = match cluster {
            Some(cluster) => self.clusters.get(cluster),
            None => self.projects.get(project),
        };
        let place = *place?;
        let own = self.backends.get(place)?.capacity(project, cluster)?;
        Some(Capacity { place, ..own })
    }

    fn knows(&self, attempt: AttemptId) -> bool {
        self.keeper(attempt).is_some()
    }

    async fn launch(&self, launch: Launch) -> Result<(), LaunchError> {
        // One that was stopped before it came here is void where it was stopped.
        let chosen = match self.keeper(launch.attempt) {
            Some(keeper) => keeper,
            None => self.chosen(&launch.placement.project, launch.placement.cluster.as_ref())?,
        };
        chosen.launch(launch).await
    }

    async fn answer(&self, attempt: AttemptId, holder: &Holder, ticket: Ticket) -> Result<(), LaunchError> {
        self.answerer(attempt)?.answer(attempt, holder, ticket).await
    }

    async fn stop(&self, attempt: AttemptId, grace: Millis) -> Result<(), LaunchError> {
        for backend in self.concerned(attempt) {
            backend.stop(attempt, grace).await?;
        }
        Ok(())
    }

    async fn observe(&self, attempt: AttemptId) -> Result<(), LaunchError> {
        self.answerer(attempt)?.observe(attempt).await
    }

    async fn processes(&self, attempt: AttemptId) -> Result<String, LaunchError> {
        self.answerer(attempt)?.processes(attempt).await
    }

    async fn debug(&self, order: DebugOrder) -> Result<Terminal, LaunchError> {
        let Placement { project, cluster, .. } = &order.launch.placement;
        self.chosen(project, cluster.as_ref())?.debug(order).await
    }

    async fn enter(&self, order: EnterOrder) -> Result<Entered, LaunchError> {
        self.chosen(&order.project, order.cluster.as_ref())?
            .enter(order)
            .await
    }

    async fn release(&self, attempt: AttemptId) -> Result<bool, LaunchError> {
        for backend in &self.backends {
            if backend.release(attempt).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn forget(&self, attempt: AttemptId) -> Result<(), LaunchError> {
        for backend in self.concerned(attempt) {
            backend.forget(attempt).await?;
        }
        Ok(())
    }

    /// A backend that does not answer hides only its own attempts.
    async fn list(&self) -> Result<Vec<AttemptId>, LaunchError> {
        let mut all = BTreeSet::new();
        for backend in &self.backends {
            match backend.list().await {
                Ok(attempts) => all.extend(attempts),
                Err(error) => tracing::warn!("some attempts cannot be listed: {error}"),
            }
        }
        Ok(all.into_iter().collect())
    }
}
