//! Reads a spec document from YAML, JSON or TOML text, with errors that name the place and the nearest known key.

use super::{ModelError, Spec, SpecDoc};

/// Longest spec document, in bytes.
pub const MAX_DOCUMENT: usize = 256 * 1024;

/// The three formats, by file ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpecFormat {
    /// `.yaml`, `.yml`.
    Yaml,
    /// `.json`.
    Json,
    /// `.toml`.
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
}

/// Reads, fills defaults in and checks.
pub fn read_spec(text: &str, format: SpecFormat) -> Result<Spec, ModelError> {
    if text.len() > MAX_DOCUMENT {
        return Err(ModelError::Document(format!("the spec is longer than {MAX_DOCUMENT} bytes")));
    }
    let doc: Result<SpecDoc, String> = match format {
        SpecFormat::Yaml => serde_saphyr::from_str(text).map_err(|e| e.to_string()),
        SpecFormat::Json => serde_json::from_str(text).map_err(|e| e.to_string()),
        SpecFormat::Toml => toml::from_str(text).map_err(|e| e.to_string()),
    };
    doc.map_err(|e| ModelError::Document(with_nearest(&e)))?.into_spec()
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
        let best = known.map(|k| (strsim::damerau_levenshtein(k, unknown), k)).min_by_key(|(distance, _)| *distance)?;
        (best.0 <= 2.max(unknown.len() / 2)).then(|| best.1.to_string())
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
    use crate::model::{BasisPoints, CheckTls, Period, StatusRule, Strategy, Trust};

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
        assert_eq!(spec.rollout.strategy, Some(Strategy::Canary));
        assert_eq!(spec.rollout.steps, [1000, 2500, 10_000].map(BasisPoints));
        assert_eq!(spec.rollout.bake, Period::minutes(10));
        assert_eq!(spec.rollout.max_error_rate, Some(BasisPoints(100)));
        assert_eq!(spec.run.stop.signal, "TERM");
    }

    #[test]
    fn unknown_keys_name_the_nearest() {
        let e = read_spec(&SHOP.replace("placement:", "placment:"), SpecFormat::Yaml).unwrap_err().to_string();
        assert!(e.lines().next().unwrap().ends_with("did you mean `placement`?"), "{e}");
        let e = read_spec(&SHOP.replace("per_worker", "per_workers"), SpecFormat::Yaml).unwrap_err().to_string();
        assert!(e.contains("did you mean `per_worker`"), "{e}");
        let e = read_spec(&SHOP.replace("canary", "canery"), SpecFormat::Yaml).unwrap_err().to_string();
        assert!(e.contains("did you mean canary"), "{e}");
    }

    #[test]
    fn falling_steps_and_reserved_names_are_refused() {
        let e = read_spec(&SHOP.replace("\"25%\"", "5"), SpecFormat::Yaml).unwrap_err().to_string();
        assert!(e.contains("rollout.steps") && e.contains("rise"), "{e}");
        let e = read_spec(&SHOP.replace("service: shop", "service: canary"), SpecFormat::Yaml).unwrap_err().to_string();
        assert!(e.contains("reserved"), "{e}");
        assert!(read_spec(&"x".repeat(MAX_DOCUMENT + 1), SpecFormat::Yaml).is_err());
    }

    fn refused(from: &str, to: &str) -> String {
        let text = SHOP.replace(from, to);
        assert_ne!(text, SHOP);
        read_spec(&text, SpecFormat::Yaml).unwrap_err().to_string()
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
