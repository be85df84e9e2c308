//! `lint`.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
};

use clap::Args;
use serde_json::json;

use super::{Exit, Failed, out::Out};
use crate::lint::{self, Broken, Summary, Told};

pub const HELP: &str = "\
FILE is a BatchImportFindings request ({\"Findings\": [...]}) or an array of findings, which are
judged as one request too, or JSON lines, a finding each. Errors are what the hub refuses, or what
every correct client refuses before; warnings are what it takes but shouldn't be given.

Exit codes: 0 no errors · 65 errors (with --strict: or warnings) · 64 the file can't be read.";

#[derive(Debug, Args)]
pub struct LintArgs {
    /// A file of findings, or - for standard input
    file: PathBuf,
    /// Print a JSON object for every remark, and one for the summary
    #[arg(long)]
    json: bool,
    /// Let warnings count as errors
    #[arg(long)]
    strict: bool,
}

pub fn lint(args: &LintArgs) -> Result<Exit, Failed> {
    let file = args.file.display();
    let unreadable =
        |error: &io::Error| Failed::new(Exit::Usage, format!("can't read {file}: {error}"));
    let input = open(&args.file).map_err(|error| unreadable(&error))?;
    let now = jiff::Timestamp::now().as_millisecond();
    let mut out = Out::standard();
    let mut failed = None;
    let mut tell = |told: Told| {
        let line = if args.json {
            serde_json::to_string(&told).expect("numbers and texts are JSON")
        } else {
            told.to_string()
        };
        out.write(&format!("{line}\n")).unwrap_or_else(|error| {
            failed = Some(error);
            false
        })
    };
    let linted = lint::lint(input, now, &mut tell);
    if let Some(failed) = failed {
        return Err(failed);
    }
    let summary = match linted {
        Ok(summary) => summary,
        // Whoever read has seen enough; what else there is isn't known.
        Err(Broken::Unwanted) => return Ok(Exit::InputRefused),
        Err(Broken::Io(error)) => return Err(unreadable(&error)),
        Err(broken @ Broken::TooLarge) => return Err(Failed::of(Exit::InputRefused, &broken)),
    };
    out.write(&summarized(args.json, summary))?;
    out.finish()?;
    let wrong = summary.errors + if args.strict { summary.warnings } else { 0 };
    Ok(if wrong == 0 { Exit::Ok } else { Exit::InputRefused })
}

fn summarized(as_json: bool, summary: Summary) -> String {
    let Summary { findings, findings_with_errors, errors, warnings } = summary;
    if as_json {
        let summary = json!({
            "findings": findings,
            "findings_with_errors": findings_with_errors,
            "errors": errors,
            "warnings": warnings,
        });
        return format!("{}\n", json!({ "summary": summary }));
    }
    format!(
        "{findings} findings, {findings_with_errors} of them with errors: {errors} errors, \
         {warnings} warnings\n"
    )
}

fn open(path: &Path) -> io::Result<Box<dyn BufRead>> {
    if path.as_os_str() == "-" {
        return Ok(Box::new(io::stdin().lock()));
    }
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::Error::from(io::ErrorKind::IsADirectory));
    }
    Ok(Box::new(BufReader::new(file)))
}
