//! CRIU's calls to the agent during a checkpoint or a restore.
//!
//! * [`hooks`]: the socket on which CRIU's hooks ask the agent.
//! * [`freeze`]: freezes a job at a moment that can be restored.
//! * [`memory_gate`]: holds a restore until the job's memory has arrived.

mod freeze;
pub(crate) mod hooks;
pub(crate) mod memory_gate;
