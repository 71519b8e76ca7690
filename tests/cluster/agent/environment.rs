//! What a real instance finds in its environment, and how a file of variables that cannot be read is told.

use slipway::wire::v1;

use super::{
    ID,
    worker::{Package, Worker, assignment, free_port, spec_of},
};

#[tokio::test(flavor = "multi_thread")]
async fn variables_come_from_the_file_and_the_spec_and_a_bad_line_is_told_with_its_file_and_number() {
    let mut w = Worker::start().await;
    let file = w.dir.path().join("shop.env");
    std::fs::write(&file, "\u{feff}# systemd's syntax\r\nA = 'one  two' \r\nHOME_OF=${A}\n").unwrap();
    let check = "[ \"$A\" = 'one  two' ] && [ \"$B\" = 'is one  two, ${A}' ] && [ \"$HOME_OF\" = '${A}' ] || exit 9\n\
                 exec bin/real \"$@\"";
    let (package, port) = (Package::shop_under("1.0.0", check), free_port());
    w.offer(&[&package]);
    let text = format!(
        "service: shop\nenvironment: production\naddress: pool\nports: {{http: 8080}}\n\
         run: {{command: [bin/shop, --listen, '${{SLIPWAY_ADDR_HTTP}}'], env_file: {}, env: {{B: 'is ${{A}}, $${{A}}'}}}}\n\
         health: {{http: /healthz, interval: 100ms}}\nrollout: {{strategy: direct}}\n",
        file.display()
    );
    let offer = |generation, id: &str| v1::Assignment {
        specs: vec![spec_of(&text)],
        ..assignment(generation, "activate", &[&package], vec![package.entry(id, port)])
    };
    w.desire(vec![offer(1, ID)]);
    w.instance_is(ID, "running", "passing").await;

    std::fs::write(&file, "A=1\nexport B=2\n").unwrap();
    w.desire(vec![offer(2, "60-0")]);
    let failed = w.instance_is("60-0", "failed", "unknown").await;
    let says = format!("run.env_file {}, line 2: this file is no shell script: write B=", file.display());
    assert!(failed.exit.contains(&says), "{}", failed.exit);
}
