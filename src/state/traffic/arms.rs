//! The arms of a deployment: the versions that it has beside each other, each with its role and its share of the
//! traffic.
//!
//! Invariants: a deployment has at most one arm of a role, and they stand in the order of roles; where there is a route
//! the weights sum to exactly 10,000 (invariant 2) and no arm is above its cap (invariant 10), where there is none
//! nothing has weight. A new role is one variant of [`Role`]: code goes over the arms that exist and asks a role what
//! holds of it. Not here: who gets how much (`routes`, and the commands of `rollout`).

use serde::{Deserialize, Serialize};
use strum::{Display, IntoStaticStr, VariantArray};

use crate::model::{BasisPoints, Millis, Pair, WHOLE, fields};

/// What an arm is there for.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, IntoStaticStr, Display, VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum Role {
    /// What everyone gets between rollouts.
    Stable,
    /// What is being rolled out.
    Candidate,
    /// What was stable before.
    Previous,
}

/// Something of each role, at its place.
pub type ByRole<T> = [T; Role::COUNT];

impl Role {
    /// Every role, in their order.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// Its place among all of them.
    pub fn place(self) -> usize {
        self as usize
    }

    /// Makes something of each.
    pub fn each<T>(mut of: impl FnMut(Self) -> T) -> ByRole<T> {
        std::array::from_fn(|place| of(Self::ALL[place]))
    }

    /// Whether it is on trial: steps cap its weight, a rollback gives it nothing, and its keys begin at the far end of
    /// the table.
    pub fn on_trial(self) -> bool {
        match self {
            Self::Candidate => true,
            Self::Stable | Self::Previous => false,
        }
    }
}

fields! {
    /// One arm.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Arm {
        1 [required] pub role: Role,
        /// What it runs.
        2 [required] pub pair: Pair,
        /// Instances wanted on it now.
        3 pub want: u32,
        /// Its share of the traffic.
        4 pub weight: BasisPoints,
        /// Largest weight that it may have in the present step; `None`: nothing bounds it.
        5 pub cap: Option<BasisPoints>,
        /// Cluster time at which the keeper retires it.
        6 pub retire_at: Option<Millis>,
    }
}

impl Arm {
    /// An arm without instances and without traffic.
    pub fn new(role: Role, pair: Pair) -> Self {
        Self { role, pair, want: 0, weight: BasisPoints(0), cap: None, retire_at: None }
    }
}

/// Why arms or weights that were read make no sense.
fn ordered(of: &str, roles: impl Iterator<Item = Role>) -> Result<(), String> {
    let mut before: Option<Role> = None;
    for role in roles {
        match before.replace(role) {
            Some(last) if last == role => return Err(format!("{role} of {of} comes twice")),
            Some(last) if last > role => return Err(format!("{role} of {of} comes after {last}")),
            Some(_) | None => {}
        }
    }
    Ok(())
}

/// The arms of one deployment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Arm>")]
pub struct Arms(Vec<Arm>);

impl TryFrom<Vec<Arm>> for Arms {
    type Error = String;

    fn try_from(arms: Vec<Arm>) -> Result<Self, String> {
        ordered("the arms", arms.iter().map(|a| a.role)).map(|()| Self(arms))
    }
}

impl FromIterator<Arm> for Arms {
    fn from_iter<T: IntoIterator<Item = Arm>>(arms: T) -> Self {
        let mut all = Self::default();
        arms.into_iter().for_each(|a| drop(all.put(a)));
        all
    }
}

impl Arms {
    fn at(&self, role: Role) -> Result<usize, usize> {
        self.0.binary_search_by_key(&role, |a| a.role)
    }

    /// The arm of a role.
    pub fn get(&self, role: Role) -> Option<&Arm> {
        self.at(role).ok().and_then(|at| self.0.get(at))
    }

    /// The same, to change it; its role stays.
    pub fn get_mut(&mut self, role: Role) -> Option<&mut Arm> {
        self.at(role).ok().and_then(|at| self.0.get_mut(at))
    }

    /// What the arm of a role runs.
    pub fn pair(&self, role: Role) -> Option<&Pair> {
        self.get(role).map(|a| &a.pair)
    }

    /// The share of a role; none without an arm.
    pub fn weight(&self, role: Role) -> BasisPoints {
        self.get(role).map_or(BasisPoints(0), |a| a.weight)
    }

    /// The arm that runs a pair.
    pub fn of(&self, pair: &Pair) -> Option<&Arm> {
        self.iter().find(|a| &a.pair == pair)
    }

    /// All of them, in the order of roles.
    pub fn iter(&self) -> impl Iterator<Item = &Arm> {
        self.0.iter()
    }

    /// The same, to change them; their roles stay.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Arm> {
        self.0.iter_mut()
    }

    /// Puts an arm in the place of its role, and returns the one that was there.
    pub fn put(&mut self, arm: Arm) -> Option<Arm> {
        match self.get_mut(arm.role) {
            Some(there) => Some(std::mem::replace(there, arm)),
            None => {
                let at = self.0.partition_point(|a| a.role < arm.role);
                self.0.insert(at, arm);
                None
            }
        }
    }

    /// Takes the arm of a role out.
    pub fn take(&mut self, role: Role) -> Option<Arm> {
        self.take_if(role, |_| true)
    }

    /// The same, where it is such a one.
    pub fn take_if(&mut self, role: Role, is: impl FnOnce(&Arm) -> bool) -> Option<Arm> {
        let at = self.at(role).ok().filter(|at| self.0.get(*at).is_some_and(is))?;
        Some(self.0.remove(at))
    }

    /// Their shares.
    pub fn weights(&self) -> Weights {
        self.iter().map(|a| (a.role, a.weight)).collect()
    }

    /// Sets every share. What is on trial may have no more until a step says so.
    pub(in crate::state) fn weigh(&mut self, weights: &Weights) {
        for arm in &mut self.0 {
            arm.weight = weights.get(arm.role);
            arm.cap = arm.role.on_trial().then_some(arm.weight);
        }
    }

    /// Sets what the arms on trial may have.
    pub(in crate::state) fn set_cap(&mut self, cap: Option<BasisPoints>) {
        self.0.iter_mut().filter(|a| a.role.on_trial()).for_each(|a| a.cap = cap);
    }
}

/// Shares of the traffic by role; whoever has none is not in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<(Role, BasisPoints)>")]
pub struct Weights(Vec<(Role, BasisPoints)>);

impl TryFrom<Vec<(Role, BasisPoints)>> for Weights {
    type Error = String;

    fn try_from(shares: Vec<(Role, BasisPoints)>) -> Result<Self, String> {
        ordered("the weights", shares.iter().map(|(role, _)| *role))?;
        match shares.iter().find(|(_, share)| share.0 == 0) {
            Some((role, _)) => Err(format!("{role} of the weights has no share")),
            None => Ok(Self(shares)),
        }
    }
}

impl FromIterator<(Role, BasisPoints)> for Weights {
    fn from_iter<T: IntoIterator<Item = (Role, BasisPoints)>>(shares: T) -> Self {
        let mut all = Self::default();
        shares.into_iter().for_each(|(role, share)| all.set(role, share));
        all
    }
}

impl Weights {
    /// Everything for one role.
    pub fn all(role: Role) -> Self {
        Self(vec![(role, WHOLE)])
    }

    /// A role's share.
    pub fn get(&self, role: Role) -> BasisPoints {
        self.iter().find(|(r, _)| *r == role).map_or(BasisPoints(0), |(_, share)| share)
    }

    /// Sets a role's share.
    pub fn set(&mut self, role: Role, share: BasisPoints) {
        self.0.retain(|(r, _)| *r != role);
        if share.0 > 0 {
            self.0.insert(self.0.partition_point(|(r, _)| *r < role), (role, share));
        }
    }

    /// The same weights with another share of one role.
    pub fn with(mut self, role: Role, share: BasisPoints) -> Self {
        self.set(role, share);
        self
    }

    /// Roles that have a share, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (Role, BasisPoints)> {
        self.0.iter().copied()
    }

    /// The sum, 10,000 in every applied route.
    pub fn sum(&self) -> u32 {
        self.iter().fold(0, |sum, (_, share)| sum.saturating_add(share.0))
    }

    /// What is missing to the whole.
    pub fn rest(&self) -> BasisPoints {
        BasisPoints(WHOLE.0.saturating_sub(self.sum()))
    }
}
