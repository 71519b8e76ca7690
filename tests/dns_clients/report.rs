//! The table of what each client was seen to do, as docs/dns.md has it.

/// One client's row; every cell is made of what was seen, and asserted before.
#[derive(Debug, Default)]
pub struct Row {
    pub client: String,
    pub shares: String,
    pub nothing: String,
    pub large: String,
    pub keeps: String,
    pub order: String,
    pub sends: String,
}

/// Prints rows as a table of Markdown.
pub fn table(rows: &[Row]) -> String {
    let mut out = String::from(
        "| client | canary at 25 %: answers of 20, versions of one look-up | no such name; name without the type | 23 SRV records | keeps an answer | order of addresses | sends |\n|---|---|---|---|---|---|---|\n",
    );
    for r in rows {
        let cells = [&r.client, &r.shares, &r.nothing, &r.large, &r.keeps, &r.order, &r.sends];
        let cells: Vec<&str> = cells.into_iter().map(|c| if c.is_empty() { "-" } else { c.as_str() }).collect();
        out.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    out
}
