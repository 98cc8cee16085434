//! The object stores of clusters, as backends and the controller want them.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use pipekeeper_controller::caches::{CacheStore, StoredCache};
use pipekeeper_model::{Bytes, Name, Timestamp};
use pipekeeper_objects::{ObjectStore, StoreOptions};

use super::tokens;
use crate::{
    config::Config,
    failure::{Failure, OrFail},
};

/// The stores of clusters, by the clusters' names.
pub(super) type Stores = BTreeMap<Name, Arc<ObjectStore>>;

/// Opens the stores of all clusters, each for this server alone: several may share a bucket.
pub(super) fn open(config: &Config) -> Result<Stores, Failure> {
    let instance = tokens::instance(&config.data_dir)?;
    let mut stores = Stores::new();
    for cluster in &config.clusters {
        let Some(options) = &cluster.object_store else {
            continue;
        };
        let own = StoreOptions {
            prefix: format!("{}/{instance}", options.prefix),
            ..options.clone()
        };
        let name = &cluster.options.name;
        let store = ObjectStore::new(&own).or_usage(format_args!("use the cluster `{name}`"))?;
        stores.insert(name.clone(), Arc::new(store));
    }
    Ok(stores)
}

/// The stores as keepers of caches.
pub(super) fn keepers(stores: &Stores) -> Vec<Arc<dyn CacheStore>> {
    let all = stores.values().map(Arc::clone);
    all.map(|store| -> Arc<dyn CacheStore> { Arc::new(Keeper(store)) })
        .collect()
}

/// A store as a keeper of caches.
struct Keeper(Arc<ObjectStore>);

#[async_trait]
impl CacheStore for Keeper {
    fn name(&self) -> &str {
        self.0.name()
    }

    async fn list(&self) -> Result<Vec<StoredCache>, String> {
        let objects = self
            .0
            .list()
            .await
            .map_err(|error| format!("failed to {error}"))?;
        let all = objects.into_iter().map(|object| StoredCache {
            stored_at: to_timestamp(object.stored_at),
            bytes: Bytes(object.bytes),
            object: object.key,
        });
        Ok(all.collect())
    }

    async fn delete(&self, object: &str) -> Result<(), String> {
        self.0
            .delete(object)
            .await
            .map_err(|error| format!("failed to {error}"))
    }
}

fn to_timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
