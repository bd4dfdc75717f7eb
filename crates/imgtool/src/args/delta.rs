//! What the commands on differences take.

use super::{Change, OutFormat};
use clap::{Subcommand, ValueEnum, ValueHint};
use ondisk::size::parse_bytes;
use ondisk::{Len, Offset, Span};
use std::path::{Path, PathBuf};

/// What is to be done with the difference of images.
#[derive(Clone, Debug, Subcommand)]
pub enum Delta {
    /// Make a patch: what it takes to make TARGET of the bases
    Create(DeltaCreate),
    /// Make the target of a patch and its bases
    Apply(DeltaApply),
    /// Show what a patch was made from and what it makes
    Info(DeltaInfo),
    /// Tell whether a patch is whole, and whether the bases are those that it needs
    Verify(DeltaVerify),
    /// Make one patch of two that are applied one after the other
    Compose(DeltaCompose),
    /// Write down of an image what it takes to make patches upon it without it
    Signature(DeltaSignature),
}

impl Delta {
    /// Whether standard output carries what is made.
    pub(super) fn streams(&self) -> bool {
        let output = match self {
            Self::Create(create) => Some(&create.output),
            Self::Apply(apply) => apply.output.as_ref(),
            Self::Compose(compose) => Some(&compose.output),
            Self::Signature(signature) => Some(&signature.output),
            Self::Info(_) | Self::Verify(_) => None,
        };
        output.is_some_and(|output| output == Path::new("-"))
    }
}

/// The images that a patch stands on.
#[derive(Clone, Debug, clap::Args)]
pub struct Bases {
    /// An image that both sides have; several times for several images
    #[arg(long = "base", value_name = "IMAGE", value_hint = ValueHint::FilePath)]
    pub bases: Vec<PathBuf>,
}

/// Who a patch is signed by.
#[derive(Clone, Debug, clap::Args)]
pub struct Signer {
    /// Sign the patch with this secret key of minisign
    #[arg(long, value_name = "KEYFILE", value_hint = ValueHint::FilePath)]
    pub sign: Option<PathBuf>,
    /// Where the password of the key stands, in the first line [default: it is asked for]
    #[arg(long, value_name = "FILE", requires = "sign", value_hint = ValueHint::FilePath)]
    pub password_file: Option<PathBuf>,
}

/// Who a patch must be signed by.
#[derive(Clone, Debug, clap::Args)]
pub struct Trust {
    /// Refuse a patch that --pubkey has not signed, before anything else of it is looked at
    #[arg(long, requires = "pubkey")]
    pub require_signature: bool,
    /// The public key of minisign: a file, or its second line
    #[arg(long, value_name = "KEY", requires = "require_signature", value_hint = ValueHint::FilePath)]
    pub pubkey: Option<String>,
}

/// The format of a patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PatchFormat {
    /// Our own.
    Native,
    /// That of RFC 3284, which xdelta3 reads.
    Vcdiff,
}

/// `delta create --base BASE TARGET -o PATCH`
#[derive(Clone, Debug, clap::Args)]
pub struct DeltaCreate {
    /// What both sides have.
    #[command(flatten)]
    pub from: Bases,
    /// The image to be described
    #[arg(value_hint = ValueHint::FilePath)]
    pub target: PathBuf,
    /// The patch to be made; - is standard output
    #[arg(short, long, value_name = "PATCH", value_hint = ValueHint::FilePath)]
    pub output: PathBuf,
    /// Format of the patch: native, vcdiff (which xdelta3 reads; one base); that of the images is told with -f
    #[arg(
        id = "patch_format",
        long = "format",
        value_name = "FORMAT",
        default_value = "native",
        hide_possible_values = true
    )]
    pub format: PatchFormat,
    /// What compresses: zstd, or xz for slow links: smaller, and slower on both sides
    #[arg(long, value_name = "CODEC", default_value = "zstd")]
    pub codec: DeltaCodec,
    /// How much work goes into compression: 1 to 22
    #[arg(long, value_name = "LEVEL", default_value_t = 9, value_parser = clap::value_parser!(i32).range(1..=22))]
    pub level: i32,
    /// Let blocks that no filesystem uses read as zero in the result
    #[arg(long)]
    pub drop_free: bool,
    /// Keep the index of the bases in this file, and use it the next time: what has not changed of them is not read then
    #[arg(
        long,
        value_name = "FILE",
        requires = "bases",
        conflicts_with = "signatures",
        value_hint = ValueHint::FilePath
    )]
    pub index: Option<PathBuf>,
    /// Tell where the bytes of the target come from, and whose those are that the patch carries: by kind, and by file
    #[arg(long)]
    pub stats: bool,
    /// The signature of an image that whoever applies the patch has; several times for several images
    #[arg(long = "signature", value_name = "SIG", conflicts_with = "bases", value_hint = ValueHint::FilePath)]
    pub signatures: Vec<PathBuf>,
    /// Who signs it.
    #[command(flatten)]
    pub signer: Signer,
}

/// What compresses the literal bytes of a patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DeltaCodec {
    /// Zstandard
    Zstd,
    /// LZMA2
    Xz,
}

/// `delta apply --base BASE PATCH -o OUT`
#[derive(Clone, Debug, clap::Args)]
pub struct DeltaApply {
    /// What the patch was made from.
    #[command(flatten)]
    pub from: Bases,
    /// The patch, which may be one of xdelta3; - is standard input
    #[arg(value_hint = ValueHint::FilePath)]
    pub patch: PathBuf,
    /// The image to be made; - is standard output, raw
    #[arg(
        short,
        long,
        value_name = "OUT",
        value_hint = ValueHint::FilePath,
        required_unless_present = "in_place"
    )]
    pub output: Option<PathBuf>,
    /// Its format: raw, vhd, vhd-fixed, qcow2 [default: by the name's ending, else raw]
    #[arg(short = 'O', long = "output-format", value_name = "FORMAT", hide_possible_values = true)]
    pub output_format: Option<OutFormat>,
    /// Make only this part of the disk
    #[arg(long, value_name = "START:LEN", value_parser = range)]
    pub range: Option<Span>,
    /// Make a child of the patch's first base, which holds only what is not as there: qcow2, or over a VHD vhd
    #[arg(long, conflicts_with_all = ["range", "in_place"])]
    pub as_child: bool,
    /// Make the first BASE itself the target, in the same file and format; repeated, it goes on
    #[arg(long, conflicts_with_all = ["output", "output_format", "range"])]
    pub in_place: bool,
    /// Read the bases whatever lies beside them, and leave nothing there for the next time
    #[arg(long)]
    pub no_cache: bool,
    /// What goes along with a change in place.
    #[command(flatten)]
    pub change: Change,
    /// Who is trusted.
    #[command(flatten)]
    pub trust: Trust,
}

impl DeltaApply {
    /// Whether options of a change are given, and nothing is changed.
    pub(super) fn contradicts(&self) -> bool {
        !self.in_place && self.change != Change::default()
    }
}

/// `delta info PATCH`
#[derive(Clone, Debug, clap::Args)]
pub struct DeltaInfo {
    /// The patch
    #[arg(value_hint = ValueHint::FilePath)]
    pub patch: PathBuf,
    /// Who is trusted.
    #[command(flatten)]
    pub trust: Trust,
}

/// `delta verify --base BASE PATCH`
#[derive(Clone, Debug, clap::Args)]
pub struct DeltaVerify {
    /// What the patch should have been made from.
    #[command(flatten)]
    pub from: Bases,
    /// The patch
    #[arg(value_hint = ValueHint::FilePath)]
    pub patch: PathBuf,
    /// Read the bases whatever lies beside them, and leave nothing there for the next time
    #[arg(long)]
    pub no_cache: bool,
    /// Who is trusted.
    #[command(flatten)]
    pub trust: Trust,
}

/// `delta compose P1 P2 -o P`
#[derive(Clone, Debug, clap::Args)]
pub struct DeltaCompose {
    /// The patch that is applied first
    #[arg(value_hint = ValueHint::FilePath)]
    pub first: PathBuf,
    /// The patch that goes on from what the first one makes
    #[arg(value_hint = ValueHint::FilePath)]
    pub second: PathBuf,
    /// The patch to be made; - is standard output
    #[arg(short, long, value_name = "PATCH", value_hint = ValueHint::FilePath)]
    pub output: PathBuf,
}

/// `delta signature BASE -o SIG`
#[derive(Clone, Debug, clap::Args)]
pub struct DeltaSignature {
    /// The image
    #[arg(value_hint = ValueHint::FilePath)]
    pub image: PathBuf,
    /// The signature to be made; - is standard output
    #[arg(short, long, value_name = "SIG", value_hint = ValueHint::FilePath)]
    pub output: PathBuf,
}

fn range(text: &str) -> Result<Span, String> {
    let parts = text.split_once(':').ok_or("expected START:LEN, as in 1M:64K")?;
    let number = |text: &str| parse_bytes(text).map_err(|error| error.to_string());
    let (start, len): (Len, Len) = (number(parts.0)?, number(parts.1)?);
    Span::new(Offset::new(start.get()), len).ok_or_else(|| "more than a disk can have".to_owned())
}
