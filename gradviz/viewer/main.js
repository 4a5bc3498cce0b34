/** Where the page begins to run. */

import { start } from "./app.js";

start(document);
