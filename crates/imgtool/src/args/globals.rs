//! What goes for every command.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{ArgAction, ValueEnum, ValueHint};
use container::Format;
use disk::Limits;
use ondisk::Len;
use ondisk::guid::Uuid;
use ondisk::size::{BadSize, parse_len};
use std::path::PathBuf;

/// What goes for the whole run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Globals {
    /// One JSON document instead of text.
    pub json: bool,
    /// Write nothing.
    pub dry_run: bool,
    /// Ask nothing.
    pub yes: bool,
    /// Say less.
    pub quiet: bool,
    /// Say more: how many times that was asked for.
    pub verbose: u8,
    /// When progress is shown, and how.
    pub progress: ProgressWhen,
    /// Upper bound of working memory.
    pub memory: Len,
    /// Parents that the operator names.
    pub parent: Vec<PathBuf>,
    /// Folders where parents may be found besides the image's own.
    pub parent_dir: Vec<PathBuf>,
    /// Worker threads; all cores where it is left out.
    pub threads: Option<u16>,
    /// When colours are used.
    pub color: ColorWhen,
    /// The format of the image, where the operator tells it.
    pub format: Option<Format>,
    /// The disk of an archive of several.
    pub disk: Option<String>,
    /// The virtual disk of a storage repository.
    pub vdi: Option<Uuid>,
    /// What a patch stands on.
    pub base: Vec<PathBuf>,
}

// The same options as typed at one level: before the command, or after it. (The parser's own notion of global options
// would keep the values of one level only. No doc comment: it would become the help text of every command.)
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Global options")]
pub(super) struct Typed {
    /// Print one JSON document, sizes in bytes
    #[arg(long)]
    json: bool,
    /// Compute and check everything, print the plan, write nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Ask no questions
    #[arg(short, long)]
    yes: bool,
    /// Say less
    #[arg(short, long)]
    quiet: bool,
    /// Say more; twice: still more
    #[arg(short, long, action = ArgAction::Count)]
    verbose: u8,
    /// Show progress on standard error: auto, always, never, json (one object a line)
    #[arg(long, value_name = "WHEN", hide_possible_values = true)]
    progress: Option<ProgressWhen>,
    /// Upper bound of working memory, of which each large structure of a change has a third [default: 512M]
    #[arg(long, value_name = "SIZE", value_parser = memory)]
    memory: Option<Len>,
    /// A parent of the image, where it does not lie in the image's folder; may be repeated
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    parent: Vec<PathBuf>,
    /// A folder where parents may be found besides the image's own; may be repeated
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    parent_dir: Vec<PathBuf>,
    /// Worker threads [default: all cores]
    #[arg(short = 'j', long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Use colours: auto, always, never; NO_COLOR is honoured
    #[arg(long, value_name = "WHEN", hide_possible_values = true)]
    color: Option<ColorWhen>,
    /// Format of the image: raw, vhd, qcow2; to be read only: vmdk, vhdx, vdi, parallels, qed, xva
    #[arg(short, long, value_name = "FORMAT", value_parser = format(), hide_possible_values = true)]
    format: Option<Format>,
    /// The disk of an archive (XVA) that holds several: its name, UUID or device
    #[arg(long, value_name = "NAME")]
    disk: Option<String>,
    /// The image is a storage repository, and meant is this virtual disk of it, to be read only
    #[arg(long, value_name = "UUID", value_parser = uuid)]
    vdi: Option<Uuid>,
    /// What a patch stands on, where IMAGE is a patch; may be repeated
    #[arg(long, value_name = "IMAGE", value_hint = ValueHint::FilePath)]
    base: Vec<PathBuf>,
}

impl Typed {
    /// Adds what was typed further on: it wins where only one value is possible.
    pub(super) fn then(mut self, later: Self) -> Self {
        self.parent.extend(later.parent);
        self.parent_dir.extend(later.parent_dir);
        self.base.extend(later.base);
        Self {
            json: self.json | later.json,
            dry_run: self.dry_run | later.dry_run,
            yes: self.yes | later.yes,
            quiet: self.quiet | later.quiet,
            verbose: self.verbose.saturating_add(later.verbose),
            progress: later.progress.or(self.progress),
            memory: later.memory.or(self.memory),
            parent: self.parent,
            parent_dir: self.parent_dir,
            threads: later.threads.or(self.threads),
            color: later.color.or(self.color),
            format: later.format.or(self.format),
            disk: later.disk.or(self.disk),
            vdi: later.vdi.or(self.vdi),
            base: self.base,
        }
    }
}

impl From<Typed> for Globals {
    fn from(typed: Typed) -> Self {
        Self {
            json: typed.json,
            dry_run: typed.dry_run,
            yes: typed.yes,
            quiet: typed.quiet,
            verbose: typed.verbose,
            progress: typed.progress.unwrap_or(ProgressWhen::Auto),
            memory: typed.memory.unwrap_or(Limits::default().memory),
            parent: typed.parent,
            parent_dir: typed.parent_dir,
            threads: typed.threads,
            color: typed.color.unwrap_or(ColorWhen::Auto),
            format: typed.format,
            disk: typed.disk,
            vdi: typed.vdi,
            base: typed.base,
        }
    }
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
    PossibleValuesParser::new(Format::ALL.map(|format| match format {
        Format::Vhd => PossibleValue::new("vhd").alias("vpc"),
        other => PossibleValue::new(other.name()),
    }))
    .try_map(|name| name.parse::<Format>())
}

fn uuid(text: &str) -> Result<Uuid, &'static str> {
    text.parse().map_err(|_| "not a UUID")
}

fn memory(text: &str) -> Result<Len, BadSize> {
    parse_len(text)
}
