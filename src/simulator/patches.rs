//! The patches of the simulated world: a fixed catalogue per platform, and a node's few bytes per
//! patch that point into it.
//!
//! What a patch is called is computed from a patch's number, so that a fleet of 100,000 nodes stays small.

/// A node's operating system, as far as patches care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Platform {
    Windows,
    Linux,
}

/// A patch's state, in the spelling that the live service uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PatchState {
    Installed,
    InstalledOther,
    Missing,
    Failed,
    InstalledRejected,
    InstalledPendingReboot,
}

impl PatchState {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Installed => "Installed",
            Self::InstalledOther => "InstalledOther",
            Self::Missing => "Missing",
            Self::Failed => "Failed",
            Self::InstalledRejected => "InstalledRejected",
            Self::InstalledPendingReboot => "InstalledPendingReboot",
        }
    }

    pub(super) fn is_non_compliant(self) -> bool {
        !matches!(self, Self::Installed | Self::InstalledOther)
    }
}

/// The compliance level that the patch baseline gives a patch. Most baselines give none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Unspecified,
    Informational,
    Low,
    Medium,
    High,
    Critical,
}

impl Level {
    pub(super) const SPECIFIED: [Self; 5] =
        [Self::Critical, Self::High, Self::Medium, Self::Low, Self::Informational];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "UNSPECIFIED",
            Self::Informational => "INFORMATIONAL",
            Self::Low => "LOW",
            Self::Medium => "MEDIUM",
            Self::High => "HIGH",
            Self::Critical => "CRITICAL",
        }
    }
}

/// One patch of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Patch {
    pub number: u16,
    pub state: PatchState,
    pub level: Level,
}

const LINUX_PACKAGES: [&str; 12] = [
    "openssl",
    "kernel",
    "glibc",
    "curl",
    "bind-libs",
    "sudo",
    "vim-minimal",
    "python3",
    "expat",
    "systemd",
    "nss",
    "zlib",
];

impl Patch {
    pub(super) fn kb_id(self, platform: Platform) -> String {
        match platform {
            Platform::Windows => format!("KB{}", 5_030_000 + u32::from(self.number)),
            Platform::Linux => {
                let package = LINUX_PACKAGES[usize::from(self.number) % LINUX_PACKAGES.len()];
                format!("{package}.x86_64:0:{}.el9", self.version())
            }
        }
    }

    /// `""` for some Windows patches, as the live service answers.
    pub(super) fn title(self, platform: Platform) -> String {
        match platform {
            Platform::Windows if self.number.is_multiple_of(19) => String::new(),
            Platform::Windows => format!(
                "2026-{:02} Cumulative Update for Windows Server 2022 ({})",
                1 + self.number % 12,
                self.kb_id(platform)
            ),
            Platform::Linux => {
                let package = LINUX_PACKAGES[usize::from(self.number) % LINUX_PACKAGES.len()];
                format!("{package}-{}.el9.x86_64", self.version())
            }
        }
    }

    pub(super) fn is_security(self) -> bool {
        !self.number.is_multiple_of(3)
    }

    /// Omitted (`""`) for `InstalledOther`, as documented, and for some Windows patches.
    pub(super) fn classification(self, platform: Platform) -> &'static str {
        match (platform, self.is_security()) {
            _ if self.state == PatchState::InstalledOther => "",
            (Platform::Windows, _) if self.number.is_multiple_of(19) => "",
            (Platform::Windows, true) => "SecurityUpdates",
            (Platform::Windows, false) => "Updates",
            (Platform::Linux, true) => "Security",
            (Platform::Linux, false) => "Bugfix",
        }
    }

    /// The vendor's severity, which is not the compliance level.
    pub(super) fn vendor_severity(self, platform: Platform) -> &'static str {
        const OF_NUMBER: [&str; 6] =
            ["Unspecified", "Critical", "Important", "Moderate", "Low", "Important"];
        let is_blank = self.state == PatchState::InstalledOther
            || (platform == Platform::Windows && self.number.is_multiple_of(19));
        if is_blank { "" } else { OF_NUMBER[usize::from(self.number) % OF_NUMBER.len()] }
    }

    /// One comma-separated string, for Linux patches that are missing or failed.
    pub(super) fn cve_ids(self, platform: Platform) -> Option<String> {
        let is_listed = matches!(self.state, PatchState::Missing | PatchState::Failed);
        if platform == Platform::Windows || !is_listed || !self.is_security() {
            return None;
        }
        let first = 1_000 + u32::from(self.number) * 7;
        let ids: Vec<String> = (0..=u32::from(self.number) % 4)
            .map(|step| format!("CVE-2026-{}", first + step))
            .collect();
        Some(ids.join(","))
    }

    /// Epoch seconds. What isn't installed has year 1 or the epoch on Windows, the epoch on Linux.
    pub(super) fn installed_at_seconds(self, platform: Platform) -> i64 {
        const YEAR_ONE: i64 = -62_135_596_800;
        let is_installed = !matches!(self.state, PatchState::Missing | PatchState::Failed);
        match platform {
            _ if is_installed => 1_750_000_000 + i64::from(self.number) * 3_600,
            Platform::Windows if self.number.is_multiple_of(2) => YEAR_ONE,
            Platform::Windows | Platform::Linux => 0,
        }
    }

    fn version(self) -> String {
        format!("{}.{}-{}", 1 + self.number % 9, self.number % 23, self.number)
    }
}
