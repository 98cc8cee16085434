//! Blocks of network addresses. Entry type: [`Block`].

use std::{fmt, net::IpAddr, str::FromStr};

use thiserror::Error;

/// Addresses that begin alike, such as `10.1.0.0/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Block {
    address: IpAddr,
    /// How many bits they have in common.
    bits: u8,
}

/// A text is no block of addresses.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("read `{0}` as a block of addresses, such as `10.1.0.0/16` or `fd00::/8`")]
pub struct BlockError(String);

impl Block {
    /// Whether its addresses are of the fourth version of the protocol, not of the sixth.
    pub fn is_v4(self) -> bool {
        self.address.is_ipv4()
    }
}

/// One address.
impl From<IpAddr> for Block {
    fn from(address: IpAddr) -> Self {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        Self { address, bits }
    }
}

impl FromStr for Block {
    type Err = BlockError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || BlockError(text.to_owned());
        let Some((address, bits)) = text.split_once('/') else {
            return Ok(Self::from(text.parse::<IpAddr>().map_err(|_| wrong())?));
        };
        let address = address.parse().map_err(|_| wrong())?;
        let bits = bits.parse().map_err(|_| wrong())?;
        // A block of everything would leave nothing to reach.
        let is_right = (1..=Self::from(address).bits).contains(&bits);
        is_right.then_some(Self { address, bits }).ok_or_else(wrong)
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_and_single_addresses_are_read() {
        let read = |text: &str| text.parse::<Block>().map(|block| block.to_string()).ok();
        assert_eq!(read("10.1.0.0/16").as_deref(), Some("10.1.0.0/16"));
        assert_eq!(read("10.1.2.3").as_deref(), Some("10.1.2.3/32"));
        assert_eq!(read("fd00:ec2::254").as_deref(), Some("fd00:ec2::254/128"));
        for wrong in [
            "",
            "10.1.0.0/33",
            "10.1.0.0/0",
            "10.1/16",
            "example.org",
            "::/129",
            "1.2.3.4/",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
