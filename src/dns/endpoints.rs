//! Endpoints that may be named together, with their addresses packed by family: an answer about addresses reads nothing
//! else.

use std::{collections::BTreeMap, net::IpAddr, ops::Deref, sync::Arc};

use crate::model::InstanceId;

/// An address with its ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub id: InstanceId,
    pub address: IpAddr,
    pub ports: Arc<BTreeMap<String, u16>>,
}

/// All endpoints of a version that may be named now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Endpoints {
    all: Box<[Endpoint]>,
    v4: Box<[[u8; 4]]>,
    v6: Box<[[u8; 16]]>,
}

impl Endpoints {
    /// Their addresses of IPv4.
    pub(super) fn v4(&self) -> &[[u8; 4]] {
        &self.v4
    }

    /// Their addresses of IPv6.
    pub(super) fn v6(&self) -> &[[u8; 16]] {
        &self.v6
    }
}

impl Deref for Endpoints {
    type Target = [Endpoint];

    fn deref(&self) -> &[Endpoint] {
        &self.all
    }
}

impl FromIterator<Endpoint> for Endpoints {
    fn from_iter<I: IntoIterator<Item = Endpoint>>(all: I) -> Self {
        let all: Box<[Endpoint]> = all.into_iter().collect();
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for endpoint in &all {
            match endpoint.address {
                IpAddr::V4(ip) => v4.push(ip.octets()),
                IpAddr::V6(ip) => v6.push(ip.octets()),
            }
        }
        Self { all, v4: v4.into(), v6: v6.into() }
    }
}
