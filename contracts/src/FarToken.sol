// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {AccessControlDefaultAdminRules} from
    "@openzeppelin/contracts/access/extensions/AccessControlDefaultAdminRules.sol";
import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Burnable} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Burnable.sol";
import {ERC20Pausable} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Pausable.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";

/// @title $FAR, the token that pays for inference.
/// @notice 18 decimals, never more than a billion tokens made, burnable, with EIP-2612 permits.
/// @dev The cap counts what was ever minted, so that a burned token cannot be made again.
contract FarToken is ERC20, ERC20Burnable, ERC20Pausable, ERC20Permit, AccessControlDefaultAdminRules {
    bytes32 public constant MINTER_ROLE = keccak256("MINTER_ROLE");
    bytes32 public constant PAUSER_ROLE = keccak256("PAUSER_ROLE");

    /// @notice The most that may ever be minted, in base units.
    uint256 public constant CAP = 1_000_000_000e18;

    /// @notice What has been minted so far, burned tokens included.
    uint256 public minted;

    error CapExceeded(uint256 minted, uint256 amount);

    /// @param admin Holds the admin role; hands it over in two steps, `adminDelay` seconds apart.
    /// @param recipient Receives `initialSupply` base units.
    constructor(address admin, uint48 adminDelay, address recipient, uint256 initialSupply)
        ERC20("Far", "FAR")
        ERC20Permit("Far")
        AccessControlDefaultAdminRules(adminDelay, admin)
    {
        if (initialSupply > 0) _mintCapped(recipient, initialSupply);
    }

    function mint(address to, uint256 amount) external onlyRole(MINTER_ROLE) {
        _mintCapped(to, amount);
    }

    /// @notice Stops every transfer, mint and burn until `unpause`.
    function pause() external onlyRole(PAUSER_ROLE) {
        _pause();
    }

    function unpause() external onlyRole(PAUSER_ROLE) {
        _unpause();
    }

    function _mintCapped(address to, uint256 amount) private {
        if (amount > CAP - minted) revert CapExceeded(minted, amount);
        minted += amount;
        _mint(to, amount);
    }

    function _update(address from, address to, uint256 value) internal override(ERC20, ERC20Pausable) {
        super._update(from, to, value);
    }
}
