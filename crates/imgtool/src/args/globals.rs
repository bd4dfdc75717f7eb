//! What goes for every command.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgAction, ValueEnum, ValueHint};
use container::Format;
use ondisk::Len;
use ondisk::size::{BadSize, parse_len};
use std::path::PathBuf;

/// The options that every command takes, before or after its name.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct Globals {
    /// Print one JSON document, sizes in bytes
    #[arg(long, global = true)]
    pub json: bool,

    /// Compute and check everything, print the plan, write nothing
    #[arg(short = 'n', long, global = true)]
    pub dry_run: bool,

    /// Ask no questions
    #[arg(short, long, global = true)]
    pub yes: bool,

    /// Say less
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,

    /// Say more; twice: still more
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,

    /// Show progress on standard error: auto, always, never, json (one object a line)
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", hide_possible_values = true)]
    pub progress: ProgressWhen,

    /// Upper bound of working memory
    #[arg(long, global = true, value_name = "SIZE", default_value = "512M", value_parser = memory)]
    pub memory: Len,

    /// A parent of the image, where it does not lie in the image's folder; may be repeated
    #[arg(long, global = true, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub parent: Vec<PathBuf>,

    /// A folder where parents may be found besides the image's own; may be repeated
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub parent_dir: Vec<PathBuf>,

    /// Worker threads [default: all cores]
    #[arg(short = 'j', long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,

    /// Use colours: auto, always, never; NO_COLOR is honoured
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", hide_possible_values = true)]
    pub color: ColorWhen,

    /// Format of the image: raw, vhd, qcow2
    #[arg(short, long, global = true, value_name = "FORMAT", value_parser = format(), hide_possible_values = true)]
    pub format: Option<Format>,
}

/// When progress is shown, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProgressWhen {
    /// A bar where standard error is a terminal.
    Auto,
    /// A bar, or plain lines where standard error is no terminal.
    Always,
    /// Not at all.
    Never,
    /// One JSON object a line.
    Json,
}

/// When colours are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ColorWhen {
    /// Where standard output is a terminal and the environment does not object.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The formats by name, `vpc` included, which is what QEMU calls VHD.
pub(super) fn format() -> impl TypedValueParser<Value = Format> {
    PossibleValuesParser::new([
        clap::builder::PossibleValue::new("raw"),
        clap::builder::PossibleValue::new("vhd").alias("vpc"),
        clap::builder::PossibleValue::new("qcow2"),
    ])
    .try_map(|name| name.parse::<Format>())
}

fn memory(text: &str) -> Result<Len, BadSize> {
    parse_len(text)
}
