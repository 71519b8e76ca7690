//! What a command is called, and the feature level it needs. Every variant stands here once more; the compiler asks for its name.
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
}
