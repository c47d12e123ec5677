//! The size of a job or a gateway, checked.

use mooring_types::host::Resources;

use crate::error::{ApiError, ApiResult};

/// Returns a size after checking its limits.
pub(super) fn resources(cpu: u32, mem_gb: f64) -> ApiResult<Resources> {
    if !Resources::CPU_RANGE.contains(&cpu) {
        let (least, most) = Resources::CPU_RANGE.into_inner();
        return Err(ApiError::invalid(format!("{cpu} cores: it takes at least {least} and at most {most}")));
    }
    if !Resources::MEM_GB_RANGE.contains(&mem_gb) {
        let (least, most) = Resources::MEM_GB_RANGE.into_inner();
        return Err(ApiError::invalid(format!("{mem_gb} GB of memory: it takes at least {least} and at most {most}")));
    }
    Ok(Resources { cpu, mem_gb })
}
