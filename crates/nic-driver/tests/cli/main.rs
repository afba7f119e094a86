//! The program as its users run it, on the fixture trees of `fixtures/documented-node`.

#[cfg(test)]
mod documented_node;
#[cfg(test)]
mod errors;
#[cfg(test)]
mod help;
#[cfg(test)]
mod program;
#[cfg(test)]
mod reload_options;
#[cfg(test)]
mod way_back;
