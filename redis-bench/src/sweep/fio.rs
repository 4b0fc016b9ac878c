//! What the local disk reaches by itself: the bar for `remora file:`.
//!
//! Refuses to overwrite: its file must not exist, and is removed after.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::config::Fio;
use super::journal::FioResult;

/// Runs fio: randread 4 KiB, O_DIRECT, io_uring, depth 64.
///
/// # Errors
/// A sentence, if fio is not installed or does not succeed.
pub fn measure(fio: &Fio) -> Result<FioResult> {
    let path = Path::new(&fio.path);
    if path.exists() {
        bail!("{} exists: fio would write over it", path.display());
    }
    let output = Command::new("fio")
        .args([
            "--name=randread",
            "--rw=randread",
            "--bs=4k",
            "--direct=1",
            "--ioengine=io_uring",
            "--iodepth=64",
        ])
        .args(["--time_based", "--output-format=json"])
        .arg(format!("--filename={}", fio.path))
        .arg(format!("--size={}", fio.size.0))
        .arg(format!("--runtime={}", fio.duration.as_secs().max(1)))
        .output()
        .context("cannot start fio (is it installed?)");
    let _ = fs::remove_file(path);
    let output = output?;
    if !output.status.success() {
        bail!("fio failed: {}", String::from_utf8_lossy(&output.stderr).trim().replace('\n', " | "));
    }
    parse(&String::from_utf8_lossy(&output.stdout))
}

fn parse(text: &str) -> Result<FioResult> {
    // fio may print warnings before its JSON.
    let json: Value =
        serde_json::from_str(text.find('{').map_or(text, |at| &text[at..])).context("fio printed no JSON")?;
    let read = &json["jobs"][0]["read"];
    let latency = |name: &str| read["clat_ns"]["percentile"][name].as_f64().map(|ns| ns / 1e3);
    let (Some(reads_per_s), Some(p50_us), Some(p99_us)) =
        (read["iops"].as_f64(), latency("50.000000"), latency("99.000000"))
    else {
        bail!("fio's JSON has no iops and percentiles");
    };
    Ok(FioResult { reads_per_s, p50_us, p99_us })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fios_json_is_understood() {
        let text = r#"fio: a warning
{"jobs":[{"read":{"iops":84000.5,"clat_ns":{"percentile":{"50.000000":700000,"99.000000":1500000}}}}]}"#;
        assert_eq!(
            parse(text).expect("json"),
            FioResult { reads_per_s: 84000.5, p50_us: 700.0, p99_us: 1500.0 }
        );
        assert!(parse("{}").is_err());
    }
}
