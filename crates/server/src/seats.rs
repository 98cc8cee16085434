//! How many connections one address may have: what one of them holds is not all that there is. Entry type: [`Seats`].

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

/// The bits of an IPv6 address that somebody has one of; the others they choose.
const NETWORK: u128 = !0 << 64;

/// What each address has.
pub(crate) struct Seats {
    most: usize,
    taken: Mutex<HashMap<IpAddr, usize>>,
}

/// One connection's; it is free again once this is dropped.
pub(crate) struct Seat {
    seats: Arc<Seats>,
    address: IpAddr,
}

impl Seats {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most: most.max(1),
            taken: Mutex::default(),
        }
    }

    /// One for another connection of this address; none if it has as many as it may.
    pub(crate) fn take(self: &Arc<Self>, address: IpAddr) -> Option<Seat> {
        let address = match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & NETWORK).into(),
        };
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(address).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        drop(taken);
        Some(Seat {
            seats: Arc::clone(self),
            address,
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, sync::Arc};

    use super::Seats;

    #[test]
    fn an_address_has_so_many_and_a_network_is_one_address() {
        let seats = Arc::new(Seats::new(2));
        let take = |address: &str| seats.take(address.parse::<IpAddr>().unwrap());
        let (one, two) = (take("192.0.2.1"), take("192.0.2.1"));
        assert!(one.is_some() && two.is_some() && take("192.0.2.1").is_none());
        assert!(take("192.0.2.2").is_some(), "another has its own");
        drop(one);
        assert!(take("192.0.2.1").is_some());
        let _held = [take("2001:db8::1"), take("2001:db8::2")];
        assert!(take("2001:db8::3").is_none());
        assert!(take("2001:db8:0:1::3").is_some());
        drop(two);
        let taken = seats.taken.lock().unwrap();
        assert_eq!(taken.len(), 1, "who has none is forgotten: {taken:?}");
    }
}
