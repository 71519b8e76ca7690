//! Arms and weights are read only as they are written: one of a role, in the order of roles, and nothing else in them.

use std::fmt::Debug;

use serde::{Serialize, de::DeserializeOwned};
use slipway::{
    model::BasisPoints,
    state::{Arm, Arms, Deployment, Role, Weights},
};

use super::{pair, rows};

fn bytes<T: Serialize>(value: &T) -> Vec<u8> {
    bincode::serde::encode_to_vec(value, bincode::config::standard()).unwrap()
}

fn no<T: DeserializeOwned + Debug>(bytes: &[u8]) -> String {
    let read = bincode::serde::decode_from_slice::<T, _>(bytes, bincode::config::standard());
    read.map(|(value, _)| value).unwrap_err().to_string()
}

fn arm(role: Role) -> Arm {
    Arm::new(role, pair(1))
}

fn says(text: &str, part: &str) {
    assert!(text.contains(part), "{text}");
}

#[test]
fn a_role_that_comes_twice_or_too_late_is_refused_by_its_name() {
    let of = |roles: &[Role]| bytes(&roles.iter().map(|role| arm(*role)).collect::<Vec<_>>());
    says(&no::<Arms>(&of(&[Role::Stable, Role::Stable])), "stable of the arms comes twice");
    says(&no::<Arms>(&of(&[Role::Candidate, Role::Stable])), "stable of the arms comes after candidate");
    let of = |roles: &[Role]| bytes(&roles.iter().map(|role| (*role, BasisPoints(1))).collect::<Vec<_>>());
    says(&no::<Weights>(&of(&[Role::Previous, Role::Previous])), "previous of the weights comes twice");
    says(&no::<Weights>(&of(&[Role::Previous, Role::Candidate])), "candidate of the weights comes after previous");
    says(&no::<Weights>(&bytes(&[(Role::Stable, BasisPoints(0))].to_vec())), "stable of the weights has no share");
}

#[test]
fn a_row_with_such_arms_is_refused_by_its_name() {
    let state = rows::full();
    let row = state.deployments.values().find(|d| d.arms.iter().count() == 3).unwrap();
    let (good, arms) = (bytes(row), bytes(&row.arms));
    let mut turned: Vec<Arm> = row.arms.iter().cloned().collect();
    turned.reverse();
    let at = good.windows(arms.len()).position(|part| part == arms).unwrap();
    let bad = [&good[..at], &bytes(&turned), &good[at + arms.len()..]].concat();
    for part in ["arms of Deployment: ", "candidate of the arms comes after previous"] {
        says(&no::<Deployment>(&bad), part);
    }
}

#[test]
fn an_arm_with_an_unknown_field_or_without_its_role_is_refused_by_name() {
    let good = bytes(&arm(Role::Stable));
    let mut more = [&good[..], &[9, 1]].concat();
    more[0] += 1;
    says(&no::<Arm>(&more), "field 9 of Arm is not known");
    // Role and pair are all that is not its default; the role takes its number and one byte.
    assert_eq!(good[..2], [2, 1]);
    let less = [&[1], &good[3..]].concat();
    says(&no::<Arm>(&less), "Arm lacks its role");
}
