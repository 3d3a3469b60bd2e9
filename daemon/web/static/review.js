// The review of pairs alone, as `realmaster pairs --review` serves it.

import { byId } from "./dom.js";
import { startKeys } from "./keys.js";
import { PairsView } from "./pairs.js";

const view = new PairsView(byId("pairs-root"));
startKeys();
view.setShown(true);
