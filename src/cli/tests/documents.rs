//! What every verb prints for scripts: docs/json.md is made of the types that are printed, and the transcripts hold
//! what is printed against it. A verb or a field that nothing is said of is red.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value};

use super::transcripts::{golden, verbs};
use crate::{
    cli::{
        error,
        live::WatchLine,
        render::{self, Levels},
        verbs as printed,
    },
    wire::v1,
};

/// In which form a verb's documents come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// An object.
    One,
    /// `items` of an object.
    List,
    /// One object a line.
    Lines,
    /// Nothing for scripts.
    Nothing,
}
use Form::{Lines, List, Nothing, One};

type Maker = fn(&mut SchemaGenerator) -> Schema;

fn of<T: JsonSchema>(all: &mut SchemaGenerator) -> Schema {
    all.subschema_for::<T>()
}

/// What each verb prints.
const DOCUMENTS: &[(&str, Form, Maker)] = &[
    ("status", One, of::<printed::status::Overview>),
    ("explain", One, of::<v1::ExplainReply>),
    ("logs", Lines, of::<printed::logs::LogLine>),
    ("apply", One, of::<v1::ApplyReply>),
    ("release push", One, of::<printed::release::Pushed>),
    ("release list", List, of::<v1::Release>),
    ("release show", One, of::<v1::Release>),
    ("release retire", One, of::<v1::Changed>),
    ("release remove", One, of::<v1::Changed>),
    ("release prune", One, of::<printed::upkeep::Pruned>),
    ("rollout plan", One, of::<v1::PlanReply>),
    ("rollout start", One, of::<v1::StartReply>),
    ("rollout restart", One, of::<v1::StartReply>),
    ("rollout list", List, of::<v1::Rollout>),
    ("rollout status", One, of::<v1::Rollout>),
    ("rollout watch", Lines, of::<WatchLine<'static>>),
    ("rollout pause", One, of::<v1::VerbReply>),
    ("rollout resume", One, of::<v1::VerbReply>),
    ("rollout promote", One, of::<v1::VerbReply>),
    ("rollout abort", One, of::<v1::VerbReply>),
    ("rollout rollback", One, of::<v1::VerbReply>),
    ("rollout history", One, of::<render::Past>),
    ("rollout explain", One, of::<v1::ExplainReply>),
    ("deployment list", List, of::<v1::Deployment>),
    ("deployment show", One, of::<printed::catalog::WholeDeployment>),
    ("deployment history", One, of::<render::Past>),
    ("deployment remove", One, of::<v1::Changed>),
    ("service list", List, of::<v1::Service>),
    ("service show", One, of::<printed::service::WholeService>),
    ("service update", One, of::<v1::StartReply>),
    ("service rollback", One, of::<v1::VerbReply>),
    ("service history", One, of::<render::Past>),
    ("service canary status", One, of::<v1::Rollout>),
    ("service canary promote", One, of::<v1::VerbReply>),
    ("service stop", One, of::<v1::Changed>),
    ("service start", One, of::<v1::Changed>),
    ("service remove", One, of::<v1::Changed>),
    ("environment list", List, of::<v1::Environment>),
    ("environment show", One, of::<printed::catalog::WholeEnvironment<'static>>),
    ("environment create", One, of::<v1::Changed>),
    ("environment set", One, of::<v1::Changed>),
    ("environment remove", One, of::<v1::Changed>),
    ("traffic show", One, of::<v1::GetRouteReply>),
    ("traffic switch", One, of::<v1::Switch>),
    ("traffic history", List, of::<v1::Switch>),
    ("traffic lease", One, of::<v1::Lease>),
    ("traffic probe", One, of::<printed::probe::Probed<'static>>),
    ("dns trace", One, of::<v1::TraceReply>),
    ("dns query", One, of::<printed::dns::DnsAnswers>),
    ("cluster init", One, of::<v1::InitReply>),
    ("cluster join", One, of::<v1::JoinReply>),
    ("cluster status", One, of::<v1::StatusReply>),
    ("cluster digest", One, of::<v1::DigestReply>),
    ("cluster snapshot", List, of::<printed::backup::Snapshot>),
    ("cluster backup", One, of::<v1::BackupDone>),
    ("cluster restore", One, of::<printed::backup::Checked<'static>>),
    ("cluster check", One, of::<printed::backup::Checked<'static>>),
    ("cluster transfer-leader", One, of::<v1::TransferLeaderReply>),
    ("cluster leave", One, of::<v1::LeaveReply>),
    ("cluster drain", One, of::<v1::DrainReply>),
    ("cluster upgrade status", One, of::<Levels>),
    ("cluster upgrade finalize", One, of::<v1::FinalizeReply>),
    ("cluster dns-cookie rotate", One, of::<v1::RotateDnsCookieReply>),
    ("node list", List, of::<v1::Node>),
    ("node show", One, of::<v1::Node>),
    ("node replace", One, of::<printed::node::Replaced>),
    ("worker list", List, of::<v1::Worker>),
    ("worker show", One, of::<printed::catalog::WholeWorker<'static>>),
    ("worker remove", One, of::<v1::Changed>),
    ("worker rekey", One, of::<v1::Changed>),
    ("settings show", List, of::<v1::Setting>),
    ("settings set", One, of::<v1::Changed>),
    ("settings unset", One, of::<v1::Changed>),
    ("event list", List, of::<v1::Event>),
    ("event watch", Lines, of::<v1::Event>),
    ("version", One, of::<printed::program::Versions>),
    ("completions", Nothing, of::<()>),
    ("man", Nothing, of::<()>),
];

/// Names that mean the same in every document; a field may say more of its own.
const NAMES: &[(&str, &str)] = &[
    ("applied_index", "The entry up to which the State was applied that this was read from"),
    ("clients", "DNS clients"),
    ("cluster_id", "Made up when the cluster was made"),
    ("deployment", "ENVIRONMENT/SERVICE"),
    ("deployments", "Deployments of it"),
    ("digest", "SHA-256 of the package, 64 hexadecimal digits"),
    ("dns_name", "DNS name, without the final dot"),
    ("ended_wall_ms", "When it ended"),
    ("error", "What was wrong, for people"),
    ("exit_code", "What the command ends with"),
    ("generation", "Rises with each change of the answers"),
    ("incarnation", "Rises when a cluster is restored from a backup"),
    ("index", "Entry of the log"),
    ("instance", "Such as 59-0"),
    ("instances", "Its instances"),
    ("labels", "What somebody wrote on it, by key"),
    ("max_level", "Highest feature level that its program supports"),
    ("meta", "Its revision, and the entries that made and changed it"),
    ("min_level", "Lowest feature level that its program supports"),
    ("name", "Its name"),
    ("node", "A node's name"),
    ("node_id", "A node's number"),
    ("nodes", "Nodes"),
    ("note", "What is worth knowing, for people; empty: nothing"),
    ("notes", "What is worth knowing, for people"),
    ("now_ms", "When it was read"),
    ("pair", "What runs"),
    ("reason", "Why, for people"),
    ("receipt", "Where the change took effect; null: nothing was to be changed"),
    ("releases", "Releases of it"),
    ("removed_versions", "Versions that were removed"),
    ("rollout", "Such as r-52"),
    ("serving", "Instances that DNS may name"),
    ("service", "Name of a service"),
    ("size", "Of the file"),
    ("spec", "Revision of the spec"),
    ("started_wall_ms", "When it began"),
    ("status", "How it stands"),
    ("strategy", "Name of a strategy"),
    ("text", "The same for people"),
    ("from", "What it leaves"),
    ("to", "What it goes to"),
    ("ttl_s", "TTL of the answers"),
    ("version", "Version of a release"),
    ("waits", "What it waits for, for people"),
    ("warnings", "What should be looked at, for people"),
    ("ways_out", "Commands that end the wait"),
    ("weight_bp", "Share of the traffic"),
    ("worker", "Name of a worker"),
    ("moved_at_ms", "When the traffic moved"),
    ("ended_at_ms", "When it ended; 0: it has not"),
    ("fenced_at_ms", "When that was known; 0: it is not"),
    ("started_at_ms", "When it began"),
    ("to_version", "Version that it goes to"),
];

/// Units, told by how a name ends.
const UNITS: &[(&str, &str)] = &[
    ("wall_ms", "ms, Unix time"),
    ("at_ms", "ms, cluster time"),
    ("now_ms", "ms, cluster time"),
    ("until_ms", "ms, cluster time"),
    ("_ms", "ms"),
    ("_us", "µs"),
    ("_s", "s"),
    ("_bp", "1/10000"),
    ("_ppm", "parts per million"),
    ("size", "bytes"),
];

const HEAD: &str = "\
# What the command line prints for scripts

`slipway VERB -o json` prints one JSON document; `-o yaml` the same in YAML. Made of the types that are printed:
`SLIPWAY_GOLDEN=write cargo test --lib cli::`. Fields are added; those that are here keep their names, types and meanings.

* **Lists** stand in `items`. Every document says from which `applied_index` it was answered; 0: no State was asked.
* **Lines.** What comes bit by bit is one JSON object a line (YAML: one document each): logs, `event watch`, `rollout watch`, and
  each verb with `--watch`, which prints a [WatchLine](#watchline) each time instead of its document.
* **Errors** are an [Failure](#failure) on standard error, JSON also with `-o yaml`; standard output then holds nothing but what was printed before.
* **One name, one meaning, one type.** What is not there is `null` for an object or where the type says so, an empty text, 0 for a moment.
* **Times.** `*_at_ms`, `now_ms` and `*until_ms` are cluster time, which no clock on a wall shows; compare them with each other.
  `*wall_ms` is Unix time. Any other `*_ms`, `*_us`, `*_s` is a duration.
* **Shares** (`*_bp`) are parts of ten thousand: 2500 is 25 %.
* **Digests** are 64 hexadecimal digits; tables show the first 12 of the same.

";

fn generator() -> SchemaGenerator {
    SchemaSettings::draft2020_12().for_serialize().into_generator()
}

/// All documents, and what they are made of.
pub struct Documents {
    verbs: Vec<(&'static str, Form, Value)>,
    parts: Map<String, Value>,
}

impl Documents {
    pub fn new() -> Self {
        let mut all = generator();
        let verbs = DOCUMENTS.iter().map(|(verb, form, make)| (*verb, *form, make(&mut all).to_value())).collect();
        of::<error::Failure<'static>>(&mut all);
        Self { verbs, parts: all.take_definitions(true) }
    }

    /// The name of a part that a schema points to.
    fn named<'a>(&self, schema: &'a Value) -> Option<&'a str> {
        schema.get("$ref")?.as_str()?.rsplit('/').next()
    }

    /// The type of a value, as the page says it; parts are links when `linked`.
    fn kind(&self, schema: &Value, linked: bool) -> String {
        if let Some(name) = self.named(schema) {
            return if linked { format!("[{name}](#{})", name.to_lowercase()) } else { "object".into() };
        }
        if let Some(any) = schema.get("anyOf").and_then(Value::as_array) {
            let all: Vec<String> = any.iter().map(|s| self.kind(s, linked)).collect();
            return all.join(" or ");
        }
        let one = |kind: &str| match kind {
            "string" => "text".to_string(),
            "array" => format!("list of {}", self.kind(&schema["items"], linked)),
            "object" => format!("map to {}", self.kind(&schema["additionalProperties"], linked)),
            other => other.to_string(),
        };
        match &schema["type"] {
            Value::Array(any) => any.iter().filter_map(Value::as_str).map(one).collect::<Vec<_>>().join(" or "),
            Value::String(kind) => one(kind),
            _ => panic!("no type: {schema}"),
        }
    }

    /// Holds that a value is what its schema says: each field is known, none is missing, each has its type.
    fn check(&self, at: &str, value: &Value, schema: &Value) {
        if let Some(name) = self.named(schema) {
            return self.check(at, value, &self.parts[name]);
        }
        if let Some(any) = schema.get("anyOf").and_then(Value::as_array) {
            let wanted = any.iter().find(|s| (s["type"] == "null") == value.is_null());
            return self.check(at, value, wanted.unwrap_or_else(|| panic!("{at}: {value}")));
        }
        if let Some(any) = schema.get("oneOf").and_then(Value::as_array) {
            let fits = any.iter().find(|s| s["properties"]["type"]["const"] == value["type"]);
            return self.check(at, value, fits.unwrap_or_else(|| panic!("{at}: {value}")));
        }
        match (value, schema.get("properties").and_then(Value::as_object)) {
            (Value::Object(all), Some(fields)) => {
                let (has, wants): (BTreeSet<_>, BTreeSet<_>) = (all.keys().collect(), fields.keys().collect());
                assert_eq!(has, wants, "{at}");
                fields.iter().for_each(|(name, field)| self.check(&format!("{at}.{name}"), &all[name], field));
            }
            (Value::Object(all), None) => {
                all.iter().for_each(|(key, v)| self.check(&format!("{at}.{key}"), v, &schema["additionalProperties"]));
            }
            (Value::Array(all), _) => all.iter().for_each(|v| self.check(&format!("{at}[]"), v, &schema["items"])),
            (plain, _) => {
                let is = match plain {
                    Value::Null => "null",
                    Value::Bool(_) => "boolean",
                    Value::String(_) => "string",
                    Value::Number(n) if n.is_u64() || n.is_i64() => "integer",
                    Value::Number(_) | Value::Array(_) | Value::Object(_) => "number",
                };
                let fits = schema["type"] == is || schema["type"].as_array().is_some_and(|t| t.iter().any(|t| t == is));
                assert!(fits, "{at}: {plain} is no {}", schema["type"]);
            }
        }
    }

    /// What a verb printed, as shapes: holds that it is what the page says.
    pub fn shape(&self, verb: &str, watched: bool, printed: &str) -> String {
        let (_, form, schema) = self.verbs.iter().find(|(name, ..)| *name == verb).unwrap();
        let line = generator().subschema_for::<WatchLine<'static>>().to_value();
        let (form, schema) = if watched { (Lines, &line) } else { (*form, schema) };
        let name = self.named(schema).unwrap_or_default();
        let read =
            |text: &str| -> Value { serde_json::from_str(text).unwrap_or_else(|e| panic!("{verb}: {e}: {text}")) };
        let without_index = |mut value: Value, itself: bool| {
            let index = value["applied_index"].is_u64();
            assert!(index, "{verb}: no applied_index");
            if !itself {
                value.as_object_mut().unwrap().remove("applied_index");
            }
            value
        };
        match form {
            Nothing => printed.into(),
            One => {
                let itself = self.parts[name]["properties"].get("applied_index").is_some();
                self.check(name, &without_index(read(printed), itself), schema);
                name.into()
            }
            List => {
                let all = without_index(read(printed), false);
                let items = all["items"].as_array().unwrap();
                assert_eq!(all.as_object().unwrap().len(), 1, "{verb}: more than items");
                items.iter().for_each(|item| self.check(name, item, schema));
                format!("items: {} {name}", items.len())
            }
            Lines => {
                let all: Vec<Value> = printed.lines().map(read).collect();
                all.iter().for_each(|value| self.check(name, value, schema));
                let types = all.iter().filter_map(|v| Some(format!(" {}", v["type"].as_str()?))).collect::<String>();
                format!("lines: {} {name}{types}", all.len())
            }
        }
    }

    fn rows(&self, text: &mut String, of: &str, schema: &Value) {
        text.push_str("\n| field | type | unit | meaning |\n|---|---|---|---|\n");
        let fields = schema["properties"].as_object().unwrap();
        for (name, field) in fields.iter().filter(|(name, field)| *name != "type" || field.get("const").is_none()) {
            let _ = writeln!(
                text,
                "| `{name}` | {} | {} | {} |",
                self.kind(field, true),
                unit(name),
                meaning(of, name, field)
            );
        }
    }

    /// The page.
    fn page(&self) -> String {
        let mut text = String::from(HEAD);
        text.push_str("## Verbs\n\n| verb | prints |\n|---|---|\n");
        for (verb, form, schema) in &self.verbs {
            let what = match form {
                Nothing => continue,
                One => self.kind(schema, true),
                List => format!("`items`: {}", self.kind(schema, true)),
                Lines => format!("a line each: {}", self.kind(schema, true)),
            };
            let _ = writeln!(text, "| `{verb}` | {what} |");
        }
        for (name, schema) in &self.parts {
            let about = schema["description"].as_str().unwrap_or_else(|| panic!("nothing is said of {name}"));
            let _ = writeln!(text, "\n## {name}\n\n{}", about.replace('\n', " "));
            let Some(any) = schema.get("oneOf").and_then(Value::as_array) else {
                self.rows(&mut text, name, schema);
                continue;
            };
            for one in any {
                let kind = one["properties"]["type"]["const"].as_str().unwrap();
                let _ = writeln!(text, "\n`type` is `{kind}`: {}", one["description"].as_str().unwrap());
                self.rows(&mut text, name, one);
            }
        }
        text
    }
}

fn unit(name: &str) -> &'static str {
    UNITS.iter().find(|(end, _)| name.ends_with(end)).map_or("", |(_, unit)| unit)
}

fn meaning(of: &str, name: &str, field: &Value) -> String {
    let own = field.get("description").and_then(Value::as_str);
    let same = NAMES.iter().find(|(n, _)| *n == name).map(|(_, m)| *m);
    let said = own.or(same).unwrap_or_else(|| panic!("nothing is said of {of}.{name}")).replace('\n', " ");
    let mut letters = said.trim_end_matches('.').chars();
    let first = letters.next().into_iter().flat_map(char::to_uppercase);
    first.chain(letters).collect::<String>().replace('|', "\\|")
}

#[test]
fn the_page_of_documents_is_current_and_lists_every_verb() {
    let known: Vec<String> = DOCUMENTS.iter().map(|(verb, ..)| format!("slipway {verb}")).collect();
    let verbs: Vec<String> = verbs().into_iter().map(|(path, _)| path).collect();
    let (known, verbs): (BTreeSet<_>, BTreeSet<_>) = (known.iter().collect(), verbs.iter().collect());
    assert_eq!(known, verbs, "DOCUMENTS says what each verb prints");
    golden("docs/json.md", &Documents::new().page());
}

#[test]
fn one_name_has_one_type_in_all_documents() {
    let all = Documents::new();
    let mut types: BTreeMap<String, BTreeMap<String, Vec<String>>> = BTreeMap::new();
    for (part, schema) in &all.parts {
        let variants = schema.get("oneOf").and_then(Value::as_array).cloned().unwrap_or_else(|| vec![schema.clone()]);
        for (name, field) in variants.iter().filter_map(|v| v["properties"].as_object()).flatten() {
            let kind = if field.get("const").is_some() { "text".into() } else { all.kind(field, false) };
            let kind = kind.trim_end_matches(" or null").to_string();
            types.entry(name.clone()).or_default().entry(kind).or_default().push(part.clone());
        }
    }
    types.retain(|_, kinds| kinds.len() > 1);
    assert!(types.is_empty(), "{types:#?}");
    let used: BTreeSet<&String> =
        all.parts.values().filter_map(|s| s.get("properties")?.as_object()).flat_map(Map::keys).collect();
    for (name, _) in NAMES {
        let in_lines = ["reason", "error", "exit_code", "text"].contains(name);
        assert!(in_lines || used.contains(&name.to_string()), "no document has {name}");
    }
}
