//! The program as its users run it, on the fixture trees of `fixtures/documented-node` and on trees like nodes of each distribution.

#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod bad_packages;
#[cfg(test)]
mod chroot;
#[cfg(test)]
mod config;
#[cfg(test)]
mod container;
#[cfg(test)]
mod contradictions;
#[cfg(test)]
mod deploy;
#[cfg(test)]
mod documented_node;
#[cfg(test)]
mod dtk_run;
#[cfg(test)]
mod errors;
#[cfg(test)]
mod help;
#[cfg(test)]
mod install_plans;
#[cfg(test)]
mod install_run;
#[cfg(test)]
mod kill_matrix;
#[cfg(test)]
mod node_tree;
#[cfg(test)]
mod not_known;
#[cfg(test)]
mod preflight;
#[cfg(test)]
mod privileges;
#[cfg(test)]
mod probe;
#[cfg(test)]
mod program;
#[cfg(test)]
mod reload_options;
#[cfg(test)]
mod reload_plan;
#[cfg(test)]
mod report;
#[cfg(test)]
mod secrets;
#[cfg(test)]
mod source_links;
#[cfg(test)]
mod stored;
#[cfg(test)]
mod terminal;
#[cfg(test)]
mod together;
#[cfg(test)]
mod usage;
#[cfg(test)]
mod way_back;
#[cfg(test)]
mod whole_life;
