//! Crash loops between rollouts, on a cluster where much else happens.
//!
//! Not here: the transcript of the keeper (`keeper`).

use crate::sim_fleet::{Behaviour, Fleet, Shape};

#[test]
fn a_crash_loop_is_slowed_down_however_much_happens_elsewhere() {
    let mut f = Fleet::with_stable(&Shape::default());
    let exits = Behaviour { exits_after: Some(500), only_on: ["w1".into()].into(), ..Behaviour::default() };
    f.behaviour.insert("1.0.0".into(), exits);
    let stable: Vec<_> = f.state.instances.values().filter(|i| i.serves() && i.worker.to_string() == "w1").collect();
    f.kill(stable[0].id);
    // As where others make a ring full of events between two looks.
    for _ in 0..2400 {
        f.state.events = Default::default();
        f.step();
    }
    let failed = f.state.instances.values().filter(|i| i.life == slipway::model::Life::Failed).count();
    assert!((2..=12).contains(&failed), "{failed} instances failed within ten minutes");
}
