//! symvers
