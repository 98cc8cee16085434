mod adopting;
mod archives;
mod fetching;
mod origin;
mod reading;
