// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

/// @title A token transfer that can fail without taking its caller along.
/// @dev SafeERC20's own attempt hands on nearly all gas. A token that calls its recipients, or that
/// spins for one of them, could then starve the payments after it: here the gas is bounded, and no
/// byte of what comes back is copied beyond the first word.
library BoundedTransfer {
    /// @dev More than twice what $FAR needs for its dearest transfer.
    uint256 internal constant TRANSFER_GAS = 120_000;

    /// @dev What must be left so that the callee gets its share whole (the EVM keeps 1/64), and the
    /// caller can still write the failure down.
    uint256 internal constant REQUIRED_GAS = TRANSFER_GAS + TRANSFER_GAS / 63 + 50_000;

    /// @dev True if the token moved `amount` to `to`, by ERC-20's rules: the call succeeded and
    /// answered true or nothing. `token` must hold code. The caller checks `REQUIRED_GAS` before,
    /// else a failure could mean no more than a stingy gas limit.
    function attempt(IERC20 token, address to, uint256 amount) internal returns (bool moved) {
        bytes4 selector = IERC20.transfer.selector;
        uint256 gasLimit = TRANSFER_GAS;
        assembly ("memory-safe") {
            let input := mload(0x40) // not advanced: hundreds of calls share these bytes
            mstore(input, selector)
            mstore(add(input, 0x04), to)
            mstore(add(input, 0x24), amount)
            let done := call(gasLimit, token, 0, input, 0x44, 0, 0x20)
            let silent := iszero(returndatasize())
            let yes := and(gt(returndatasize(), 0x1f), eq(mload(0), 1))
            moved := and(done, or(silent, yes))
        }
    }
}
