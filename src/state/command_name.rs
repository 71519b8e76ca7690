//! What a command is called, the feature level it needs, and whether it steers. Every variant stands here once more; the compiler asks
//! for its name and for the last of these.
//! Not here: the variants (`command`), what they do (`apply`).

use super::Command;

impl Command {
    /// The command's name in logs, metrics and transcripts.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ClusterInit { .. } => "ClusterInit",
            Self::NodeAdmitted(_) => "NodeAdmitted",
            Self::NodeRoleSet { .. } => "NodeRoleSet",
            Self::SpecApplied { .. } => "SpecApplied",
            Self::BlobHeld { .. } => "BlobHeld",
            Self::BlobDropped { .. } => "BlobDropped",
            Self::ReleaseRegistered { .. } => "ReleaseRegistered",
            Self::WorkerRegistered { .. } => "WorkerRegistered",
            Self::StartRollout(_) => "StartRollout",
            Self::Pause { .. } => "Pause",
            Self::Resume { .. } => "Resume",
            Self::Abort { .. } => "Abort",
            Self::Promote { .. } => "Promote",
            Self::Rollback { .. } => "Rollback",
            Self::Tick => "Tick",
            Self::FactsRecorded { .. } => "FactsRecorded",
            Self::WorkerLost { .. } => "WorkerLost",
            Self::WorkerReturned { .. } => "WorkerReturned",
            Self::NodeSilent { .. } => "NodeSilent",
            Self::NodeHeard { .. } => "NodeHeard",
            Self::StepsCompiled { .. } => "StepsCompiled",
            Self::StepStarted { .. } => "StepStarted",
            Self::BatchStarted { .. } => "BatchStarted",
            Self::BatchPassed { .. } => "BatchPassed",
            Self::RouteSet { .. } => "RouteSet",
            Self::Switched { .. } => "Switched",
            Self::DrainSettled { .. } => "DrainSettled",
            Self::ViewsServed { .. } => "ViewsServed",
            Self::CountedOut { .. } => "CountedOut",
            Self::OrderExtended { .. } => "OrderExtended",
            Self::StopPermitted { .. } => "StopPermitted",
            Self::StepEnded { .. } => "StepEnded",
            Self::RollbackBegan { .. } => "RollbackBegan",
            Self::RolloutPaused { .. } => "RolloutPaused",
            Self::PromotionBegan { .. } => "PromotionBegan",
            Self::RolloutFinished { .. } => "RolloutFinished",
            Self::TrackAdjusted { .. } => "TrackAdjusted",
            Self::DeliverySettled { .. } => "DeliverySettled",
            Self::Collected { .. } => "Collected",
            Self::DigestProbe => "DigestProbe",
            Self::DigestReported { .. } => "DigestReported",
            Self::NodeAnnounced { .. } => "NodeAnnounced",
            Self::NodeDrained { .. } => "NodeDrained",
            Self::LevelRaised { .. } => "LevelRaised",
            Self::LeaseSet { .. } => "LeaseSet",
            Self::ExpirySet { .. } => "ExpirySet",
            Self::SwitchAsked(_) => "SwitchAsked",
            Self::ArmsConfirmed { .. } => "ArmsConfirmed",
            Self::SwitchMoved { .. } => "SwitchMoved",
            Self::SwitchEnded { .. } => "SwitchEnded",
            Self::LeasesSettled { .. } => "LeasesSettled",
            Self::TrafficBackSettled { .. } => "TrafficBackSettled",
            Self::CookieAsked => "CookieAsked",
            Self::CookieRotated { .. } => "CookieRotated",
            #[cfg(debug_assertions)]
            Self::LevelProbe => "LevelProbe",
        }
    }

    /// The lowest active feature level at which it may be proposed: every node must be able to read it.
    pub fn level(&self) -> u32 {
        #[cfg(debug_assertions)]
        if matches!(self, Self::LevelProbe) {
            return 2;
        }
        1
    }

    /// Whether it stops or turns what is under way: such a verb has places of its own in the table of requests, so that one who asks
    /// without end for other things locks nobody out who wants to stop.
    pub fn steers(&self) -> bool {
        match self {
            Self::Pause { .. }
            | Self::Resume { .. }
            | Self::Abort { .. }
            | Self::Promote { .. }
            | Self::Rollback { .. }
            | Self::NodeDrained { .. }
            | Self::LeaseSet { .. }
            | Self::ExpirySet { .. }
            | Self::SwitchAsked(_) => true,
            // One that ends another rollout turns it.
            Self::StartRollout(start) => start.replace,
            Self::ClusterInit { .. }
            | Self::NodeAdmitted(_)
            | Self::NodeRoleSet { .. }
            | Self::SpecApplied { .. }
            | Self::BlobHeld { .. }
            | Self::BlobDropped { .. }
            | Self::ReleaseRegistered { .. }
            | Self::WorkerRegistered { .. }
            | Self::Tick
            | Self::FactsRecorded { .. }
            | Self::WorkerLost { .. }
            | Self::WorkerReturned { .. }
            | Self::NodeSilent { .. }
            | Self::NodeHeard { .. }
            | Self::StepsCompiled { .. }
            | Self::StepStarted { .. }
            | Self::BatchStarted { .. }
            | Self::BatchPassed { .. }
            | Self::RouteSet { .. }
            | Self::Switched { .. }
            | Self::DrainSettled { .. }
            | Self::ViewsServed { .. }
            | Self::CountedOut { .. }
            | Self::OrderExtended { .. }
            | Self::StopPermitted { .. }
            | Self::StepEnded { .. }
            | Self::RollbackBegan { .. }
            | Self::RolloutPaused { .. }
            | Self::PromotionBegan { .. }
            | Self::RolloutFinished { .. }
            | Self::TrackAdjusted { .. }
            | Self::DeliverySettled { .. }
            | Self::Collected { .. }
            | Self::DigestProbe
            | Self::DigestReported { .. }
            | Self::NodeAnnounced { .. }
            | Self::LevelRaised { .. }
            | Self::ArmsConfirmed { .. }
            | Self::SwitchMoved { .. }
            | Self::SwitchEnded { .. }
            | Self::LeasesSettled { .. }
            | Self::TrafficBackSettled { .. }
            | Self::CookieAsked
            | Self::CookieRotated { .. } => false,
            #[cfg(debug_assertions)]
            Self::LevelProbe => false,
        }
    }
}
