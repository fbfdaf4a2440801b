//! The whole thing in a cluster in which pods run: installed with Helm, with real
//! gosts in pods. [`site`] is the cluster that a user lends, [`install`] the
//! release in it; [`life`] is the story.

mod gosts;
mod images;
mod install;
mod life;
mod site;
