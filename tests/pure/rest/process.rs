//! One process on a simulated worker: its life follows from its age and its release's behaviour, as the real agent
//! would tell it. An exit before the first pass is the end; later ones are restarted with growing pauses, five times.

use slipway::model::{Health, Life, Pair};

use super::catalogue::Behaviour;

const SPAWN: u64 = 250;
const PASSES: u64 = 1000;
const STOP: u64 = 500;
/// Between two checks.
const CHECK: u64 = 1000;
/// Failed checks after which it counts as failing.
const UNHEALTHY: u32 = 3;
const START_WITHIN: u64 = 10_000;
const RESTARTS: u32 = 5;

#[derive(Clone)]
pub struct Process {
    pub pair: Pair,
    pub life: Life,
    pub health: Health,
    pub failures: u32,
    pub restarts: u32,
    pub exit: Option<String>,
    /// When its present run began; in the future while a restart is put off.
    started: u64,
    pub passed: bool,
    stopping: Option<u64>,
}

impl Process {
    pub fn new(pair: Pair, real: u64) -> Self {
        Self {
            pair,
            life: Life::Starting,
            health: Health::Unknown,
            failures: 0,
            restarts: 0,
            exit: None,
            started: real,
            passed: false,
            stopping: None,
        }
    }

    /// Whether it takes requests.
    pub fn serves(&self, real: u64) -> bool {
        self.life == Life::Running && real >= self.started + SPAWN
    }

    pub fn stop(&mut self, real: u64) {
        if self.life.is_live() && self.stopping.is_none() {
            self.stopping = Some(real + STOP);
        }
    }

    /// It ends by itself, by a signal or with its machine.
    pub fn end(&mut self, how: &str, real: u64) {
        if !self.life.is_live() {
            return;
        }
        self.exit = Some(how.into());
        if !self.passed || self.restarts >= RESTARTS {
            self.life = Life::Failed;
            self.health = Health::Unknown;
            return;
        }
        self.started = real + (1000 << self.restarts);
        self.restarts += 1;
        self.health = Health::Failing;
    }

    /// It is started again in the place of what was to replace it.
    pub fn put_back(&mut self, real: u64) {
        if !self.life.is_live() {
            (self.life, self.health, self.exit) = (Life::Running, Health::Unknown, None);
            (self.started, self.stopping) = (real, None);
        }
    }

    pub fn reboot(&mut self, real: u64) {
        match self.stopping {
            Some(_) => self.gone(),
            None => self.end("the machine was started anew", real),
        }
    }

    fn gone(&mut self) {
        self.life = Life::Gone;
        self.health = Health::Unknown;
    }

    /// Brings it up to the present.
    pub fn advance(&mut self, b: Behaviour, real: u64) {
        if !self.life.is_live() {
            return;
        }
        if self.stopping.is_some_and(|at| real >= at) {
            return self.gone();
        }
        if real < self.started + SPAWN {
            return;
        }
        let age = real - self.started;
        self.life = Life::Running;
        if b.exits.is_some_and(|at| age >= at) {
            return self.end("exit status 1", real);
        }
        match b.fades.filter(|at| age >= *at) {
            Some(at) if self.passed || b.hangs => {
                self.failures = (((age - at) / CHECK) as u32 + 1).min(UNHEALTHY);
                if self.failures == UNHEALTHY {
                    self.health = Health::Failing;
                }
            }
            Some(_) | None if b.hangs && self.passed => {}
            Some(_) | None if b.hangs => {
                if age >= START_WITHIN {
                    self.end("did not pass in time", real);
                }
            }
            Some(_) | None => {
                if age >= PASSES {
                    (self.health, self.failures, self.passed) = (Health::Passing, 0, true);
                }
            }
        }
    }

    /// When it will be another, if nothing interferes.
    pub fn next_change(&self, b: Behaviour, real: u64) -> Option<u64> {
        if !self.life.is_live() {
            return None;
        }
        let ages = [Some(SPAWN), Some(PASSES), b.exits, b.hangs.then_some(START_WITHIN)];
        let fades = b.fades.map(|at| [at, at + CHECK, at + 2 * CHECK]);
        let ages = ages.into_iter().flatten().chain(fades.into_iter().flatten());
        ages.map(|age| self.started + age).chain(self.stopping).filter(|at| *at > real).min()
    }
}
