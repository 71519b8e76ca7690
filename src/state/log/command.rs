//! The declaration of all commands: everything that can be agreed on.
//!
//! One line makes a command: its number, which is what the log keeps and is never used again, the file of its struct
//! with its `apply`, and `of` the field that says which deployment it is about. The enum, names, levels, bytes and
//! dispatch follow. Operator and node commands carry a request id; engine commands carry the revision they saw and come
//! from the leader alone. Not here: guards and effects, which stand with each command.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error as _, SeqAccess, Visitor},
    ser::SerializeTuple,
};

use crate::{
    model::DeploymentId,
    state::{
        State,
        base::{
            about::About,
            context::{Apply, Cx, Done},
        },
    },
};

macro_rules! commands {
    ($($(#[$attr:meta])* $number:literal => $room:ident::$file:ident::$name:ident $(of $about:ident)?),* $(,)?) => {
        $($(#[$attr])* pub use crate::state::$room::$file::$name;)*

        /// Everything that can be agreed on.
        // A box would save nothing: one command is alive at a time, and nobody keeps a list of them.
        #[allow(clippy::large_enum_variant)]
        #[derive(Debug, Clone, PartialEq)]
        pub enum Command {
            $($(#[$attr])* $name($name),)*
        }

        $(
            $(#[$attr])*
            impl From<$name> for Command {
                fn from(command: $name) -> Self {
                    Self::$name(command)
                }
            }
        )*

        impl Command {
            /// The names of all commands.
            pub const NAMES: &[&str] = &[$($(#[$attr])* stringify!($name)),*];

            /// The command's name in logs, metrics and transcripts.
            pub fn name(&self) -> &'static str {
                match self {
                    $($(#[$attr])* Self::$name(_) => stringify!($name),)*
                }
            }

            /// The lowest active feature level at which it may be proposed: every node must be able to read it.
            pub fn level(&self) -> u32 {
                match self {
                    $($(#[$attr])* Self::$name(_) => $name::LEVEL,)*
                }
            }

            /// Whether it stops or turns what is under way ([`Apply::steers`]).
            pub(in crate::state) fn steers(&self) -> bool {
                match self {
                    $($(#[$attr])* Self::$name(command) => command.steers(),)*
                }
            }

            /// The deployment that it is about; `None`: no single one, or none that is known.
            pub fn about(&self, state: &State) -> Option<DeploymentId> {
                match self {
                    $($(#[$attr])* Self::$name(command) => commands!(@about command, state $(, $about)?),)*
                }
            }

            /// Its guards and effects.
            pub(in crate::state) fn apply(&self, cx: &mut Cx<'_>) -> Done {
                match self {
                    $($(#[$attr])* Self::$name(command) => command.apply(cx),)*
                }
            }
        }

        impl Serialize for Command {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                let mut pair = to.serialize_tuple(2)?;
                match self {
                    $(
                        $(#[$attr])*
                        Self::$name(command) => {
                            pair.serialize_element::<u16>(&$number)?;
                            pair.serialize_element(command)?;
                        }
                    )*
                }
                pair.end()
            }
        }

        impl<'de> Visitor<'de> for Numbered {
            type Value = Command;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a command's number and its fields")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut pair: A) -> Result<Command, A::Error> {
                let short = || A::Error::custom("a command without its fields");
                match pair.next_element::<u16>()?.ok_or_else(short)? {
                    $($(#[$attr])* $number => Ok(Command::$name(pair.next_element()?.ok_or_else(short)?)),)*
                    other => Err(A::Error::custom(format!("command {other} is not known: a newer version wrote it"))),
                }
            }
        }
    };
    (@about $command:ident, $state:ident, $field:ident) => { $command.$field.deployment($state) };
    (@about $command:ident, $state:ident) => {{
        let _ = $command;
        None
    }};
}

/// Reads a command by its number.
struct Numbered;

impl<'de> Deserialize<'de> for Command {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_tuple(2, Numbered)
    }
}

commands! {
    1 => cluster::cluster_init::ClusterInit,
    2 => cluster::node_admitted::NodeAdmitted,
    3 => cluster::node_role_set::NodeRoleSet,
    4 => catalog::spec_applied::SpecApplied of spec,
    5 => catalog::blob_held::BlobHeld,
    6 => catalog::blob_dropped::BlobDropped,
    7 => catalog::release_registered::ReleaseRegistered,
    8 => fleet::worker_registered::WorkerRegistered,
    9 => rollout::start_rollout::StartRollout of deployment,
    10 => rollout::pause::Pause of rollout,
    11 => rollout::resume::Resume of rollout,
    12 => rollout::abort::Abort of rollout,
    13 => rollout::promote::Promote of rollout,
    14 => rollout::rollback::Rollback of rollout,
    15 => cluster::tick::Tick,
    16 => fleet::facts_recorded::FactsRecorded,
    17 => fleet::worker_lost::WorkerLost,
    18 => fleet::worker_returned::WorkerReturned,
    19 => cluster::node_silent::NodeSilent,
    20 => cluster::node_heard::NodeHeard,
    21 => rollout::steps_compiled::StepsCompiled of rollout,
    22 => rollout::step_started::StepStarted of at,
    23 => rollout::batch_started::BatchStarted of at,
    24 => rollout::batch_passed::BatchPassed of at,
    25 => rollout::route_set::RouteSet of at,
    26 => rollout::switched::Switched of at,
    27 => fleet::drain_settled::DrainSettled of deployment,
    28 => fleet::views_served::ViewsServed,
    29 => rollout::counted_out::CountedOut of deployment,
    30 => rollout::order_extended::OrderExtended of rollout,
    31 => fleet::stop_permitted::StopPermitted of deployment,
    32 => rollout::step_ended::StepEnded of at,
    33 => rollout::rollback_began::RollbackBegan of rollout,
    34 => rollout::rollout_paused::RolloutPaused of rollout,
    35 => rollout::promotion_began::PromotionBegan of rollout,
    36 => rollout::rollout_finished::RolloutFinished of rollout,
    37 => rollout::arm_adjusted::ArmAdjusted of deployment,
    38 => rollout::delivery_settled::DeliverySettled,
    39 => rollout::collected::Collected,
    40 => cluster::digest_probe::DigestProbe,
    41 => cluster::digest_reported::DigestReported,
    42 => cluster::node_announced::NodeAnnounced,
    43 => cluster::node_drained::NodeDrained,
    44 => cluster::level_raised::LevelRaised,
    45 => traffic::lease_set::LeaseSet,
    46 => traffic::expiry_set::ExpirySet of deployment,
    47 => traffic::switch_asked::SwitchAsked,
    48 => traffic::arming_confirmed::ArmingConfirmed,
    49 => traffic::switch_moved::SwitchMoved,
    50 => traffic::switch_ended::SwitchEnded,
    51 => traffic::leases_settled::LeasesSettled,
    52 => traffic::traffic_back_settled::TrafficBackSettled of rollout,
    53 => cluster::cookie_asked::CookieAsked,
    54 => cluster::cookie_rotated::CookieRotated,
    55 => catalog::release_retired::ReleaseRetired,
    56 => catalog::release_removed::ReleaseRemoved,
    57 => catalog::releases_pruned::ReleasesPruned,
    58 => catalog::service_removed::ServiceRemoved,
    59 => catalog::environment_created::EnvironmentCreated,
    60 => catalog::environment_set::EnvironmentSet,
    61 => catalog::environment_removed::EnvironmentRemoved,
    62 => catalog::blob_doomed::BlobDoomed,
    63 => fleet::worker_removed::WorkerRemoved,
    64 => fleet::worker_rekeyed::WorkerRekeyed,
    65 => rollout::deployment_removed::DeploymentRemoved of deployment,
    66 => cluster::settings_set::SettingsSet,
    67 => rollout::deployment_stopped::DeploymentStopped of deployment,
    68 => rollout::deployment_started::DeploymentStarted of deployment,
    #[cfg(debug_assertions)]
    65535 => cluster::level_probe::LevelProbe,
}
