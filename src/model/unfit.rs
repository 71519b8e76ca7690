//! Addresses that no instance can have, so that nobody is sent there: neither clients nor a smoke test.
//!
//! Not here: whether a machine has an address (`agent`), and who may be asked at loopback (`act`).

use std::net::IpAddr;

/// Why no instance can have this address; `None`: it can.
pub fn unfit(address: IpAddr) -> Option<&'static str> {
    // One of IPv4 in the clothes of IPv6 is what it is.
    match address.to_canonical() {
        IpAddr::V4(a) if a.octets()[0] == 0 => Some("stands for this network and not for a machine"),
        IpAddr::V4(a) if a.is_link_local() => {
            Some("is link-local: it is not routed, and clouds answer there themselves")
        }
        IpAddr::V4(a) if a.is_broadcast() => Some("is the broadcast address"),
        IpAddr::V4(a) if a.is_multicast() => Some("is a multicast address"),
        IpAddr::V6(a) if a.is_unspecified() => Some("stands for all addresses"),
        IpAddr::V6(a) if a.is_unicast_link_local() => Some("is link-local: it means something on one link alone"),
        IpAddr::V6(a) if a.is_multicast() => Some("is a multicast address"),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_instance_can_have_is_told_from_what_it_can() {
        for odd in [
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "255.255.255.255",
            "224.0.0.1",
            "239.255.255.250",
            "::",
            "fe80::1",
            "febf::1",
            "ff02::1",
            "::ffff:169.254.169.254",
            "::ffff:0.0.0.0",
        ] {
            assert!(unfit(odd.parse().unwrap()).is_some(), "{odd}");
        }
        for sound in
            ["10.0.0.1", "127.0.0.1", "127.60.1.1", "192.0.2.1", "169.253.1.1", "::1", "fd00::1", "2001:db8::1"]
        {
            assert_eq!(unfit(sound.parse().unwrap()), None, "{sound}");
        }
    }
}
