//! The steering manifest (draft-pantos-hls-rfc8216bis-20 §7, draft-pantos-content-steering).

use std::time::Duration;

use serde_json::Value;
use url::Url;

use super::attributes::Attributes;
use super::multivariant::Multivariant;
use super::net::{Client, with_query};
use super::report::Report;

const CLAUSE: &str = "§7.2";

pub(crate) fn check(
    client: &Client,
    base: &Url,
    told: &Attributes,
    main: &Multivariant,
    at: &str,
    report: &mut Report,
) {
    let Some(uri) = told.text("SERVER-URI").filter(|uri| !uri.starts_with("data:")) else {
        return;
    };
    let Ok(url) = base.join(uri) else {
        report.must(CLAUSE, at, "SERVER-URI is a URI", uri);
        return;
    };
    let pathway = told.text("PATHWAY-ID").unwrap_or(".");
    let url = with_query(
        &url,
        &[
            ("_HLS_pathway", format!("\"{pathway}\"")),
            ("_HLS_throughput", "5000000".to_owned()),
        ],
    );
    let answer = match client.fetch(&url, None, Duration::from_secs(20)) {
        Ok(answer) if answer.status == 200 => answer,
        Ok(answer) => return report.must(CLAUSE, at, "the steering manifest can be had", answer.status),
        Err(why) => return report.must(CLAUSE, at, "the steering manifest can be had", why),
    };
    if answer.content_type() != "application/json" {
        report.should(
            CLAUSE,
            at,
            "the steering manifest is application/json",
            answer.content_type(),
        );
    }
    let names: Vec<&str> = main
        .variants
        .iter()
        .map(|(variant, _)| variant.text("PATHWAY-ID").unwrap_or("."))
        .collect();
    manifest(&answer.body, &names, at, report);
}

pub(crate) fn manifest(body: &[u8], pathways: &[&str], at: &str, report: &mut Report) {
    let Ok(manifest) = serde_json::from_slice::<Value>(body) else {
        return report.must(
            CLAUSE,
            at,
            "the steering manifest is JSON",
            String::from_utf8_lossy(body).chars().take(80).collect::<String>(),
        );
    };
    if manifest["VERSION"].as_u64() != Some(1) {
        report.must(
            CLAUSE,
            at,
            "the steering manifest's VERSION is 1",
            &manifest["VERSION"],
        );
    }
    if !manifest["TTL"].is_null() && manifest["TTL"].as_u64().is_none_or(|ttl| ttl == 0) {
        report.must(CLAUSE, at, "TTL is a number of seconds", &manifest["TTL"]);
    }
    let clones: Vec<&str> = manifest["PATHWAY-CLONES"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|clone| clone["ID"].as_str())
        .collect();
    match manifest["PATHWAY-PRIORITY"].as_array() {
        None => report.must(
            CLAUSE,
            at,
            "PATHWAY-PRIORITY is an array",
            &manifest["PATHWAY-PRIORITY"],
        ),
        Some(order) => {
            let order: Vec<&str> = order.iter().filter_map(Value::as_str).collect();
            let mut once = order.clone();
            once.sort_unstable();
            once.dedup();
            if order.is_empty() || once.len() != order.len() {
                report.must(
                    CLAUSE,
                    at,
                    "PATHWAY-PRIORITY names pathways, each once",
                    format!("{order:?}"),
                );
            }
            if !order
                .iter()
                .any(|id| pathways.contains(id) || clones.contains(id))
            {
                report.must(
                    CLAUSE,
                    at,
                    "PATHWAY-PRIORITY names a pathway that there is",
                    format!("{order:?}"),
                );
            }
        }
    }
}
