//! The bound on an evaluation's work; entry type [`Fuel`].

use crate::value::Value;

/// Bytes of text that cost one unit.
const BYTES_PER_UNIT: usize = 64;

/// What an evaluation may still spend: nodes, list elements and text cost units.
#[derive(Clone, Debug)]
pub struct Fuel(u32);

/// The fuel ran out.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("the expression is too costly")]
pub struct Exhausted;

impl Fuel {
    /// A given number of units.
    pub fn new(units: u32) -> Self {
        Self(units)
    }

    /// The units that are left.
    pub fn remaining(&self) -> u32 {
        self.0
    }

    pub(crate) fn spend(&mut self, units: usize) -> Result<(), Exhausted> {
        let left = u32::try_from(units)
            .ok()
            .and_then(|units| self.0.checked_sub(units));
        // What could not be paid leaves nothing, so that an error which `||` absorbs cannot buy more work.
        self.0 = left.unwrap_or(0);
        left.map(|_| ()).ok_or(Exhausted)
    }

    pub(crate) fn spend_text(&mut self, bytes: usize) -> Result<(), Exhausted> {
        self.spend(bytes / BYTES_PER_UNIT)
    }

    /// Pays for a copy of `value`.
    pub(crate) fn spend_copy(&mut self, value: &Value) -> Result<(), Exhausted> {
        match value {
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => Ok(()),
            Value::String(text) => self.spend_text(text.len()),
            Value::List(items) => {
                self.spend(items.len())?;
                items.iter().try_for_each(|item| self.spend_copy(item))
            }
            Value::Map(entries) => {
                self.spend(entries.len())?;
                entries.iter().try_for_each(|(key, value)| {
                    self.spend_text(key.len())?;
                    self.spend_copy(value)
                })
            }
        }
    }
}

impl Default for Fuel {
    fn default() -> Self {
        Self(10_000)
    }
}
