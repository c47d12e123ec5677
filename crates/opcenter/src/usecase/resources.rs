//! The size of a job or a gateway, checked.

use mooring_types::host::Resources;
use mooring_types::placement::NoHost;

use crate::error::{ApiError, ApiResult, At};

/// Returns a size after checking its limits, as the inputs `cpu` and `memGB`.
pub(super) fn resources(cpu: u32, mem_gb: f64) -> ApiResult<Resources> {
    Ok(Resources { cpu: cores(cpu)?, mem_gb: memory(mem_gb)? })
}

/// Makes the refusal of a size for which there is no room. It is about what has grown.
pub(super) fn no_room(error: NoHost, before: Resources, asked: Resources) -> ApiError {
    let is_for_size = matches!(error, NoHost::NoRoom { .. } | NoHost::NoRoomAnywhere { .. });
    let refusal = ApiError::from(error);
    match is_for_size {
        true if asked.cpu > before.cpu => refusal.at("cpu"),
        true if asked.mem_gb > before.mem_gb => refusal.at("memGB"),
        _ => refusal,
    }
}

/// Returns a number of cores after checking its limits.
pub(crate) fn cores(cpu: u32) -> ApiResult<u32> {
    if Resources::CPU_RANGE.contains(&cpu) {
        return Ok(cpu);
    }
    let (least, most) = Resources::CPU_RANGE.into_inner();
    Err(ApiError::invalid(format!("{cpu} cores: it takes at least {least} and at most {most}")).at("cpu"))
}

/// Returns an amount of memory in GB after checking its limits.
pub(crate) fn memory(mem_gb: f64) -> ApiResult<f64> {
    if Resources::MEM_GB_RANGE.contains(&mem_gb) {
        return Ok(mem_gb);
    }
    let (least, most) = Resources::MEM_GB_RANGE.into_inner();
    Err(ApiError::invalid(format!("{mem_gb} GB of memory: it takes at least {least} and at most {most}")).at("memGB"))
}
