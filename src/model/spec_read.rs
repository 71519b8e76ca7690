//! Reads a spec document from YAML, JSON or TOML text, with errors that name the place and the nearest known key.
//!
//! Invariants: a key that has no value is refused and never a default; what a library says to its programmers reaches
//! nobody. Keys at the top that begin with `x-` are for anchors and are skipped. Not here: what a value may be
//! (`spec_values`, `spec`).

use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeSeed, IgnoredAny, IntoDeserializer, value::MapAccessDeserializer},
};
use serde_json::Value;
use serde_saphyr::UserMessageFormatter;

use super::{ModelError, Spec, SpecDoc, nearest};

/// Longest spec document, in bytes.
pub const MAX_DOCUMENT: usize = 256 * 1024;

/// The three formats, by file ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display, strum::EnumString)]
#[strum(serialize_all = "snake_case")]
pub enum SpecFormat {
    /// `.yaml`, `.yml`.
    #[strum(to_string = "yaml", serialize = "yml")]
    Yaml,
    Json,
    Toml,
}

impl SpecFormat {
    /// By the file's name; YAML (which includes JSON) when it says nothing.
    pub fn of_file(name: &str) -> Self {
        match name.rsplit('.').next() {
            Some("json") => Self::Json,
            Some("toml") => Self::Toml,
            Some(_) | None => Self::Yaml,
        }
    }

    fn read<T: de::DeserializeOwned>(self, text: &str) -> Result<T, ModelError> {
        let read = match self {
            Self::Yaml => serde_saphyr::from_str(text).map_err(|e| e.render_with_formatter(&UserMessageFormatter)),
            Self::Json => serde_json::from_str(text).map_err(|e| e.to_string()),
            Self::Toml => toml::from_str(text).map_err(|e| e.to_string()),
        };
        read.map_err(|e| ModelError::Document(with_nearest(&plain(&e))))
    }
}

/// What libraries say, and what is meant.
const WORDS: [(&str, &str); 5] = [
    (
        "only single YAML document expected but multiple found",
        "the file holds several documents (---): write one spec into a file",
    ),
    ("invalid bool", "not true or false"),
    ("expected string scalar", "expected text"),
    ("expected mapping start", "expected keys with values, such as `service: shop`"),
    ("expected sequence start", "expected a list, such as [a, b]"),
];

fn plain(message: &str) -> String {
    let message = message.strip_prefix("error: ").unwrap_or(message);
    WORDS.iter().fold(message.to_string(), |text, (theirs, ours)| text.replace(theirs, ours))
}

/// Reads, fills defaults in and checks.
pub fn read_spec(text: &str, format: SpecFormat) -> Result<Spec, ModelError> {
    if text.len() > MAX_DOCUMENT {
        return Err(ModelError::Document(format!("the spec is longer than {MAX_DOCUMENT} bytes")));
    }
    // Editors of Windows begin files with this mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim().is_empty() {
        return Err(ModelError::Document("the spec is empty".into()));
    }
    let values = format.read::<Value>(text);
    if let Ok(values) = &values {
        has_values(values, "")?;
    }
    let Extended(doc) = format.read(text)?;
    values?;
    doc.into_spec()
}

/// Refuses keys and items without a value: whoever writes `max_error_rate:` means something, and it is not the default.
fn has_values(value: &Value, at: &str) -> Result<(), ModelError> {
    let below = |key: &str| if at.is_empty() { key.to_string() } else { format!("{at}.{key}") };
    match value {
        Value::Null if at.is_empty() => Err(ModelError::Document("the spec is empty".into())),
        Value::Null => Err(ModelError::field(at, "has no value: write one (\"\" for empty text), or leave it out")),
        Value::Array(items) => {
            items.iter().enumerate().try_for_each(|(n, item)| has_values(item, &format!("{at}[{n}]")))
        }
        Value::Object(entries) => entries
            .iter()
            .filter(|(key, _)| !(at.is_empty() && extension(key)))
            .try_for_each(|(key, value)| has_values(value, &below(key))),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

fn extension(key: &str) -> bool {
    key.starts_with("x-")
}

/// A document whose own keys may stand beside `x-` keys.
struct Extended(SpecDoc);

impl<'de> Deserialize<'de> for Extended {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_map(ExtendedVisitor)
    }
}

struct ExtendedVisitor;

impl<'de> de::Visitor<'de> for ExtendedVisitor {
    type Value = Extended;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a spec: `service: shop` and so on, one key a line")
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Extended, A::Error> {
        SpecDoc::deserialize(MapAccessDeserializer::new(WithoutExtensions(map))).map(Extended)
    }
}

struct WithoutExtensions<A>(A);

impl<'de, A: de::MapAccess<'de>> de::MapAccess<'de> for WithoutExtensions<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        while let Some(key) = self.0.next_key::<String>()? {
            if !extension(&key) {
                return seed.deserialize(key.into_deserializer()).map(Some);
            }
            self.0.next_value::<IgnoredAny>()?;
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.0.next_value_seed(seed)
    }
}

/// Adds "did you mean" to serde's `unknown field` message.
pub fn with_nearest(message: &str) -> String {
    let nearest = || -> Option<String> {
        let rest = message.split("unknown field `").nth(1)?;
        let (unknown, rest) = rest.split_once('`')?;
        // The list's end is the line's; some readers quote each known key, some do not.
        let list = rest.split("expected").nth(1)?.lines().next()?;
        let known = list
            .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .filter(|k| !["", "one", "of", "or"].contains(k));
        nearest(unknown, known).map(String::from)
    };
    match nearest() {
        // Beside the first line, where it is read: some readers quote the place below it.
        Some(k) => match message.trim_end().split_once('\n') {
            Some((first, place)) => format!("{first}; did you mean `{k}`?\n{place}"),
            None => format!("{}; did you mean `{k}`?", message.trim_end()),
        },
        None => message.trim_end().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BasisPoints, CheckTls, Period, StatusRule, StrategyName, Trust};

    const SHOP: &str = r#"
service: shop
environment: production
run: {command: ["bin/shop", "--listen", "${SLIPWAY_ADDR_HTTP}"]}
ports: {http: 8080}
placement: {per_worker: 2}
health: {http: /healthz, interval: 2s}
rollout: {strategy: canary, steps: [10, "25%", 100], bake: PT10M, max_error_rate: 1%}
"#;

    #[test]
    fn reads_what_the_design_shows() {
        let spec = read_spec(SHOP, SpecFormat::Yaml).unwrap();
        assert_eq!(spec.rollout.strategy, Some(StrategyName::CANARY));
        assert_eq!(spec.rollout.steps, [1000, 2500, 10_000].map(BasisPoints));
        assert_eq!(spec.rollout.bake, Period::minutes(10));
        assert_eq!(spec.rollout.max_error_rate.0, Some(BasisPoints(100)));
        assert_eq!(spec.run.stop.signal, "TERM");
    }

    #[test]
    fn a_stop_signal_is_written_with_or_without_sig() {
        let with = |signal: &str| {
            let text = format!(
                "service: shop\nenvironment: production\nports: {{http: 80}}\nhealth: {{http: /h}}\n\
                 run: {{command: [bin/shop], stop: {{signal: {signal}}}}}\n"
            );
            read_spec(&text, SpecFormat::Yaml).map(|spec| spec.run.stop.signal).map_err(|e| e.to_string())
        };
        for (text, signal) in
            [("SIGRTMIN+3", "RTMIN+3"), ("rtmax-1", "RTMAX-1"), ("SigTerm", "TERM"), ("WINCH", "WINCH")]
        {
            assert_eq!(with(text), Ok(signal.into()), "{text}");
        }
        for text in ["SIGSIGTERM", "SIGRTMIN+31", "37", "STOP"] {
            let said = with(text).unwrap_err();
            assert!(said.contains("run.stop.signal") && said.contains("RTMIN+1 to RTMIN+30"), "{said}");
        }
    }

    #[test]
    fn unknown_keys_name_the_nearest() {
        let e = read_spec(&SHOP.replace("placement:", "placment:"), SpecFormat::Yaml).unwrap_err().to_string();
        assert!(e.lines().next().unwrap().ends_with("did you mean `placement`?"), "{e}");
        let e = read_spec(&SHOP.replace("per_worker", "per_workers"), SpecFormat::Yaml).unwrap_err().to_string();
        assert!(e.contains("did you mean `per_worker`"), "{e}");
        let e = read_spec(&SHOP.replace("bake", "bakes"), SpecFormat::Yaml).unwrap_err().to_string();
        assert!(e.contains("unknown field `bakes`") && e.contains("did you mean `bake`"), "{e}");
    }

    #[test]
    fn falling_steps_and_reserved_names_are_refused() {
        let e = read_spec(&SHOP.replace("\"25%\"", "5"), SpecFormat::Yaml).unwrap_err().to_string();
        assert!(e.contains("rollout.steps") && e.contains("rise"), "{e}");
        let e = read_spec(&SHOP.replace("service: shop", "service: canary"), SpecFormat::Yaml).unwrap_err().to_string();
        assert!(e.contains("reserved"), "{e}");
        let e = read_spec(&SHOP.replace("bake: PT10M", "smoke: [/a, /b]"), SpecFormat::Yaml).unwrap_err().to_string();
        assert!(e.contains("rollout.smoke") && e.contains("neither text nor a number"), "a list is no value: {e}");
        assert!(read_spec(&"x".repeat(MAX_DOCUMENT + 1), SpecFormat::Yaml).is_err());
    }

    fn refused(from: &str, to: &str) -> String {
        let text = SHOP.replace(from, to);
        assert_ne!(text, SHOP);
        read_spec(&text, SpecFormat::Yaml).unwrap_err().to_string()
    }

    #[test]
    fn keys_without_a_value_are_refused_by_their_place_and_never_a_default() {
        for (from, to, place) in [
            ("[10, \"25%\", 100]", "[10, ~, 50]", "rollout.steps[1]"),
            ("max_error_rate: 1%", "max_error_rate: ", "rollout.max_error_rate"),
            ("placement: {per_worker: 2}", "placement:", "placement"),
            ("bin/shop\", ", "bin/shop\", null, ", "run.command[1]"),
            ("per_worker: 2", "per_worker: ~", "placement.per_worker"),
            ("run: {", "run: {env: {A: }, ", "run.env.A"),
            ("{http: 8080}", "{http: }", "ports.http"),
        ] {
            let e = refused(from, to);
            assert!(e.starts_with(&format!("{place}: has no value")), "{to}: {e}");
        }
        let json = r#"{"service":"shop","environment":"qa","run":{"command":["a"],"user":null},"ports":{"http":1},"health":{"http":"/"}}"#;
        assert!(read_spec(json, SpecFormat::Json).unwrap_err().to_string().starts_with("run.user: has no value"));
    }

    #[test]
    fn what_is_nearly_right_is_never_taken_for_something_else() {
        let ports = |port: &str| refused("{http: 8080}", &format!("{{http: {port}}}"));
        for port in ["80800", "\"8080\"", "8080/tcp", "080x", "-1", "80.5", "{port: 80800, protocol: udp}", "[80]"] {
            let e = ports(port);
            assert!(!e.contains("untagged"), "{port}: {e}");
            assert!(e.contains("a port") || e.contains("whole number"), "{port}: {e}");
        }
        assert!(ports("{port: 53, protocol: udp, nmae: x}").contains("unknown field `nmae`"));
        let workers = |text: &str| refused("per_worker: 2", &format!("workers: {text}"));
        for text in [
            "role==web",
            "role!=web",
            "\"role=web zone=a\"",
            "role=",
            "=web",
            "\"role=web,\"",
            "web",
            "\"role=web,role=db\"",
            "\"role in (a)\"",
        ] {
            let e = workers(text);
            assert!(e.starts_with("placement.workers: "), "{text}: {e}");
        }
        for count in ["2.5", "\"2\"", "two", "-1", "4294967296", "true", "1e30"] {
            let e = refused("per_worker: 2", &format!("per_worker: {count}"));
            assert!(e.contains("is not a whole number"), "{count}: {e}");
        }
    }

    #[test]
    fn what_a_library_says_to_its_programmers_reaches_nobody() {
        let off = SHOP.replace("max_error_rate: 1%", "max_error_rate: off");
        assert_eq!(read_spec(&off, SpecFormat::Yaml).unwrap().rollout.max_error_rate.0, None, "a truth value in YAML");
        let theirs = [
            "untagged",
            "Option<",
            "DuplicateKeyPolicy",
            "from_str",
            "Options",
            "invalid u",
            "scalar",
            "mapping start",
        ];
        let said = |text: &str, format| read_spec(text, format).unwrap_err().to_string();
        for (text, says) in [
            (format!("{SHOP}---\n{SHOP}"), "several documents"),
            (format!("{SHOP}service: other\n"), "duplicate mapping key: service"),
            (SHOP.replace("service: shop", "service: [a]"), "expected text"),
            (SHOP.replace("service: shop", "singleton: perhaps\nservice: shop"), "not true or false"),
            (SHOP.replace("8080", "x y"), "is not a port"),
            (String::new(), "the spec is empty"),
            ("---\n".into(), "the spec is empty"),
            ("just text".into(), ""),
            ("- a\n- b\n".into(), ""),
        ] {
            let e = said(&text, SpecFormat::Yaml);
            assert!(e.contains(says) && !theirs.iter().any(|t| e.contains(t)) && !e.starts_with("error: "), "{e}");
        }
        let json = r#"{"service":"shop","environment":"qa","run":{"command":["bin/shop"]},"ports":{"http":8080},"health":{"http":"/healthz"}}"#;
        assert!(read_spec(&format!("\u{feff}{json}"), SpecFormat::Json).is_ok(), "a mark of the byte order is no text");
        assert!(read_spec(&format!("\u{feff}{SHOP}"), SpecFormat::Yaml).is_ok());
    }

    #[test]
    fn keys_for_anchors_stand_at_the_top() {
        let with = format!(
            "x-defaults: &d {{interval: 3s, more: ~}}\n{}",
            SHOP.replace("{http: /healthz, interval: 2s}", "\n  <<: *h\n  http: /x")
        );
        let with = with.replace("x-defaults: &d {interval: 3s, more: ~}", "x-defaults: ~\nx-health: &h {interval: 3s}");
        assert_eq!(read_spec(&with, SpecFormat::Yaml).unwrap().health.interval, Period::seconds(3));
        let e = refused("{http: 8080}", "{http: {port: 1, protocol: tcp, x-more: 1}}");
        assert!(e.contains("unknown field `x-more`"), "only there: {e}");
    }

    #[test]
    fn what_only_the_agent_reads_is_refused_here_by_its_field() {
        let metrics = |requests: &str, errors: &str| {
            refused("rollout:", &format!("metrics: {{requests: '{requests}', errors: '{errors}'}}\nrollout:"))
        };
        let e = metrics("http_requests_total{code=~5..}", "a");
        assert!(e.starts_with("metrics.requests: ") && e.contains(r#"code=~"5..""#), "{e}");
        let e = metrics("a", "sum(rate(http_requests_total[1m]))");
        assert!(e.starts_with("metrics.errors: ") && e.contains("expression"), "{e}");
        assert!(metrics("", "a").starts_with("metrics.requests: "));
    }

    #[test]
    fn further_series_have_names_of_their_own_and_are_no_more_than_are_counted() {
        let with = |series: &str| {
            SHOP.replace("rollout:", &format!("metrics: {{requests: r, errors: e, series: {{{series}}}}}\nrollout:"))
        };
        let spec =
            read_spec(&with("latency: 'request_seconds{path=\"/\"}', mails: mails_total"), SpecFormat::Yaml).unwrap();
        let names: Vec<String> = spec.metrics.unwrap().declared().map(|(name, _)| name.to_string()).collect();
        assert_eq!(names, ["requests", "errors", "latency", "mails"]);
        let refused = |series: &str| read_spec(&with(series), SpecFormat::Yaml).unwrap_err().to_string();
        assert!(refused("Latency: a").contains("metrics.series: \"Latency\" is not the name of a metric"));
        assert!(refused("latency: 'rate(a[5m])'").starts_with("metrics.series.latency: "));
        assert!(refused("errors: a").starts_with("metrics.series.errors: errors means something else already"));
        let many: Vec<String> = (0..9).map(|n| format!("m{n}: a")).collect();
        assert!(refused(&many.join(", ")).contains("names 9 metrics, and at most 8 are counted"));
    }

    #[test]
    fn a_check_over_tls_says_whom_it_trusts_and_contradictions_are_refused() {
        let health = |more: &str| refused("interval: 2s}", &format!("interval: 2s, {more}}}"));
        assert!(health("scheme: https").contains("ca_file"), "there are no roots of the platform");
        assert!(health("scheme: https, tls: {server_name: a.b}").contains("insecure_skip_verify: true"));
        assert!(health("tls: {ca_file: /ca.pem}").contains("health.scheme: https"));
        assert!(health("scheme: http, tls: {insecure_skip_verify: true}").starts_with("health.tls: "));
        assert!(health("scheme: https, tls: {ca_file: /a, insecure_skip_verify: true}").contains("choose one"));
        assert!(health("scheme: https, tls: {ca_file: ca.pem}").starts_with("health.tls.ca_file: "));
        assert!(
            health("scheme: https, tls: {ca_file: /a, server_name: 'a.b:443'}").starts_with("health.tls.server_name: ")
        );
        assert!(health("scheme: ftp").starts_with("health.scheme: "));
        assert!(health("host: 'http://a.b/'").starts_with("health.host: "));
        assert!(health("status: 2xx").starts_with("health.status: "));
        assert!(health("tls: {ca: /a}").contains("unknown field `ca`"));
    }

    #[test]
    fn a_check_over_tls_is_read_as_it_was_written() {
        let more =
            "interval: 2s, host: 'a.b:8443', status: 204, scheme: https, tls: {ca_file: /a.pem, server_name: '::1'}}";
        let health = read_spec(&SHOP.replace("interval: 2s}", more), SpecFormat::Yaml).unwrap().health;
        assert_eq!(
            health.tls,
            Some(CheckTls { trust: Trust::CaFile("/a.pem".into()), server_name: Some("::1".into()) })
        );
        assert!(health.status.takes(204) && !health.status.takes(200));
        let plain = read_spec(SHOP, SpecFormat::Yaml).unwrap().health;
        assert_eq!((plain.tls, plain.host, plain.status), (None, None, StatusRule::default()));
    }

    #[test]
    fn json_and_toml_say_the_same() {
        let json = r#"{"service":"shop","environment":"qa","run":{"command":["bin/shop"]},"ports":{"http":8080},"health":{"http":"/healthz"}}"#;
        let toml = "service='shop'\nenvironment='qa'\nrun={command=['bin/shop']}\nports={http=8080}\nhealth={http='/healthz'}\n";
        assert_eq!(read_spec(json, SpecFormat::Json).unwrap(), read_spec(toml, SpecFormat::Toml).unwrap());
    }
}
