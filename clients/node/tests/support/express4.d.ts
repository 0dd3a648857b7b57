/** Express 4 beside 5, which the types are of. */
declare module "express4" {
  import express from "express";
  export default express;
}
