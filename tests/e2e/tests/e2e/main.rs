//! Whole nodes and agents, from the outside.
#![expect(clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod agent_killed;
mod away;
mod backup_storages;
mod bad_input;
mod cascade;
mod cascade_actions;
mod cascade_dead_host;
mod cli;
mod connection;
mod console;
mod copies;
mod crash;
mod database;
mod deletion;
mod dhcp;
mod doctor;
mod doctor_bridges;
mod doctor_depot;
mod doctor_fix;
mod ending;
mod failures;
mod flow_messages;
mod flows;
mod gc;
mod hosts;
mod image_crash;
mod images;
mod metrics;
mod openssh;
mod operator_flows;
mod own_type;
mod security;
mod trace;
mod uploads;
mod vm;
