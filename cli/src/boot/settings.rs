//! The vm.* settings that zone numbers depend on: as booted, as recorded, or as given with `--set`.

use page_allocator::Tunables;
use page_allocator::layout::ZoneSet;

/// Settings by the names of /proc/sys/vm.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    pub(crate) tunables: Tunables,
}

/// Why a setting was refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("setting `{setting}`: expected {expected}")]
pub(crate) struct SettingError {
    setting: String,
    expected: &'static str,
}

/// Names that `--set` takes, with the bounds of the value.
const SCALARS: [(&str, u64, u64); 4] = [
    ("min_free_kbytes", 0, u32::MAX as u64 >> 1),
    ("watermark_scale_factor", 1, 3000),
    ("watermark_boost_factor", 0, u32::MAX as u64 >> 1),
    ("percpu_pagelist_high_fraction", 0, u32::MAX as u64 >> 1),
];

impl Settings {
    /// Applies `vm.NAME=VALUE`.
    ///
    /// # Errors
    /// An unknown name, or a value that the kernel refuses.
    pub(crate) fn apply(&mut self, setting: &str, configured: ZoneSet) -> Result<(), SettingError> {
        let refuse = |expected| SettingError { setting: setting.to_owned(), expected };
        let (name, value) = setting
            .strip_prefix("vm.")
            .and_then(|rest| rest.split_once('='))
            .ok_or_else(|| refuse("vm.NAME=VALUE, such as vm.min_free_kbytes=65536"))?;
        self.set(name, value, configured).map_err(refuse)
    }

    /// Sets `name`, as /proc/sys/vm has it, from the text of its file.
    pub(crate) fn set(&mut self, name: &str, value: &str, configured: ZoneSet) -> Result<(), &'static str> {
        if name == "lowmem_reserve_ratio" {
            return self.set_ratios(value, configured);
        }
        let &(_, least, most) = SCALARS.iter().find(|scalar| scalar.0 == name).ok_or(
            "one of vm.min_free_kbytes, vm.watermark_scale_factor, vm.watermark_boost_factor, \
             vm.lowmem_reserve_ratio, vm.percpu_pagelist_high_fraction",
        )?;
        let value: u64 = value.trim().parse().map_err(|_| "a decimal number")?;
        if value < least || value > most {
            return Err("a number within the bounds of this setting (watermark_scale_factor: 1 to 3000)");
        }
        match name {
            "min_free_kbytes" => self.tunables.min_free_kbytes = Some(value),
            "watermark_scale_factor" => self.tunables.watermark_scale_factor = value,
            "watermark_boost_factor" => self.tunables.watermark_boost_factor = value,
            // The kernel takes 0, or at least 8.
            _ if (1..8).contains(&value) => return Err("0, or a fraction of at least 8"),
            _ => self.tunables.percpu_pagelist_high_fraction = value,
        }
        Ok(())
    }

    /// One ratio for each configured kind of zone, lowest first; fewer leave the rest as it is.
    fn set_ratios(&mut self, value: &str, configured: ZoneSet) -> Result<(), &'static str> {
        const EXPECTED: &str = "one decimal number for each kind of zone, such as \"256 256 32 0 0\"";
        let mut kinds = configured.iter();
        for field in value.split([' ', '\t', ',', '\n']).filter(|field| !field.is_empty()) {
            let kind = kinds.next().ok_or(EXPECTED)?;
            *self.tunables.lowmem_reserve_ratio.get_mut(kind.index()).ok_or(EXPECTED)? =
                field.parse().map_err(|_| EXPECTED)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use units::ZoneType;

    use super::*;

    const X86: ZoneSet =
        ZoneSet::of(&[ZoneType::Dma, ZoneType::Dma32, ZoneType::Normal, ZoneType::Movable, ZoneType::Device]);

    #[test]
    fn settings_are_read_by_the_kernels_names() {
        let mut settings = Settings::default();
        settings.apply("vm.min_free_kbytes=1024", X86).unwrap();
        settings.apply("vm.lowmem_reserve_ratio=64 32", X86).unwrap();
        assert_eq!(settings.tunables.min_free_kbytes, Some(1024));
        assert_eq!(settings.tunables.lowmem_reserve_ratio[..3], [64, 32, 32]);
    }

    #[test]
    fn what_the_kernel_refuses_is_refused() {
        let refused = [
            "vm.swappiness=60",
            "min_free_kbytes=1",
            "vm.min_free_kbytes=much",
            "vm.watermark_scale_factor=3001",
            "vm.percpu_pagelist_high_fraction=7",
            "vm.lowmem_reserve_ratio=1 2 3 4 5 6",
        ];
        for setting in refused {
            let error = Settings::default().apply(setting, X86).unwrap_err().to_string();
            assert!(error.starts_with(&format!("setting `{setting}`: expected ")), "{error}");
        }
    }
}
